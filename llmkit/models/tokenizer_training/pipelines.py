"""Untrained tokenizers of each kind: normalizer, pre-tokenizer, decoder and post-processor."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL_TOKENS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip
UNK_TOKEN = SPECIAL_TOKENS["unk_token"]
CONTINUATION_PREFIX = "##"  # of a WordPiece token inside a word
# In texts without spaces, tokens would otherwise span the end of a sentence.
CJK_PUNCTUATION = Regex(r"[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")


def build_wordpiece(lowercase: bool) -> Tokenizer:
    """Build BERT's pipeline: split at punctuation, Chinese characters are single words, accents are kept."""
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
    """Build the byte-level pipeline of GPT-2 and RoBERTa: no unknown tokens, lossless unless lowercased."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # trim_offsets removes the leading space from a token's offsets.
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), build_post_processor()])
    return tokenizer


def build_unigram(lowercase: bool) -> Tokenizer:
    """Build SentencePiece's pipeline: a space is part of the following word; white space is collapsed."""
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
    """Build the template that adds [CLS] and [SEP] around a text or a pair; the second text has token type 1."""
    names = list(SPECIAL_TOKENS.values())  # their ids are their indices: each trainer puts them first
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
