"""What a tokenizer of each kind does to a text before and after its vocabulary: an untrained one of each."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL_TOKENS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip
UNK_TOKEN = SPECIAL_TOKENS["unk_token"]
CONTINUATION_PREFIX = "##"  # of a WordPiece that does not begin its word
# Where a text has no spaces, pieces would begin in one sentence and end in the next.
CJK_PUNCTUATION = Regex(r"[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")


def build_wordpiece(lowercase: bool) -> Tokenizer:
    """As BERT does: words and punctuation apart, each Chinese character a word; accents stay, in whatever case."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNK_TOKEN, continuing_subword_prefix=CONTINUATION_PREFIX))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(),
        normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=lowercase
        ),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION_PREFIX)
    tokenizer.post_processor = build_post_processor()
    return tokenizer


def build_bpe(lowercase: bool) -> Tokenizer:
    """As GPT-2 and RoBERTa do: a text is its bytes, so that nothing is unknown and, with its case, all comes back."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The first takes the space before a word out of the word's place in the text.
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), build_post_processor()])
    return tokenizer


def build_unigram(lowercase: bool) -> Tokenizer:
    """As SentencePiece does: a space is a letter of the word behind it; any run of white space counts as one."""
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Lowercase()] * lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split(CJK_PUNCTUATION, behavior="isolated"),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = build_post_processor()
    return tokenizer


def build_post_processor() -> processors.TemplateProcessing:
    """The special tokens around a text and around the two of a pair, whose second has token type 1."""
    names = list(SPECIAL_TOKENS.values())  # their ids are their places: each trainer puts them first
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[
            (name, names.index(name)) for name in (SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"])
        ],
    )


TOKENIZER_BUILDERS: dict[str, Callable[[bool], Tokenizer]] = {
    "wordpiece": build_wordpiece,
    "bpe": build_bpe,
    "unigram": build_unigram,
}
