"""What a tokenizer of each kind does to a text before and after its vocabulary: an untrained one of each."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip
UNKNOWN = SPECIAL["unk_token"]
PREFIX = "##"  # of a WordPiece that does not begin its word
# Where a text has no spaces, pieces would begin in one sentence and end in the next.
FULL_STOPS = Regex(r"[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")


def wordpiece(lowercase: bool) -> Tokenizer:
    """As BERT does: words and punctuation apart, each Chinese character a word; accents stay, in whatever case."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix=PREFIX))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(),
        normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=lowercase
        ),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=PREFIX)
    tokenizer.post_processor = around_texts()
    return tokenizer


def bpe(lowercase: bool) -> Tokenizer:
    """As GPT-2 and RoBERTa do: a text is its bytes, so that nothing is unknown and, with its case, all comes back."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The first takes the space before a word out of the word's place in the text.
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), around_texts()])
    return tokenizer


def unigram(lowercase: bool) -> Tokenizer:
    """As SentencePiece does: a space is a letter of the word behind it; any run of white space counts as one."""
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Lowercase()] * lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split(FULL_STOPS, behavior="isolated"),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = around_texts()
    return tokenizer


def around_texts() -> processors.TemplateProcessing:
    """The special tokens around a text and around the two of a pair, whose second has token type 1."""
    names = list(SPECIAL.values())  # their ids are their places: each trainer puts them first
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, names.index(name)) for name in (SPECIAL["cls_token"], SPECIAL["sep_token"])],
    )


KINDS: dict[str, Callable[[bool], Tokenizer]] = {"wordpiece": wordpiece, "bpe": bpe, "unigram": unigram}
