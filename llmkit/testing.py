"""Tiny models and data for tests, also for plug-in authors: no network, a fraction of a second each."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmkit.data.rows import Rows
    from llmkit.models.load import LoadedModel
    from llmkit.tasks.base import Task
    from llmkit.training.trainer import StepTrainer

# Config fields of a tiny encoder by model type.
ENCODER_CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {
        "hidden_size": 32,
        "embedding_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
    "modernbert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "global_attn_every_n_layers": 1,
    },
}
# Config fields of tiny encoder-decoders.
BART_CONFIG = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
              "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.3}  # fmt: skip
T5_CONFIG = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
SEQ2SEQ_CONFIGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers"), T5_CONFIG),
    **dict.fromkeys(("bart", "pegasus", "mbart", "marian", "m2m_100", "blenderbot", "mvp", "plbart"), BART_CONFIG),
    "led": BART_CONFIG | {
        "max_encoder_position_embeddings": 136, "max_decoder_position_embeddings": 136, "attention_window": 16
    },
    "pegasus_x": BART_CONFIG | {"block_size": 16, "num_global_tokens": 4},
    "bigbird_pegasus": BART_CONFIG | {"attention_type": "original_full"},
    "prophetnet": {
        "hidden_size": 32, "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 2,
        "num_decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.3,
    },
}  # fmt: skip
# SentencePiece tokenizers: class, file name, fields of tokenizer_config.json.
SENTENCEPIECE_TOKENIZERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "marian": ("MarianTokenizer", "source.spm", {"source_lang": "en", "target_lang": "de"}),
    "m2m_100": ("M2M100Tokenizer", "sentencepiece.bpe.model", {}),
    "mbart": ("MBartTokenizer", "sentencepiece.bpe.model", {}),
    "mbart50": ("MBart50Tokenizer", "sentencepiece.bpe.model", {"src_lang": "en_XX"}),
    "nllb": ("NllbTokenizer", "sentencepiece.bpe.model", {"extra_special_tokens": ["eng_Latn", "deu_Latn"]}),
    "plbart": ("PLBartTokenizer", "sentencepiece.bpe.model", {"language_codes": "base"}),
    "t5": ("T5Tokenizer", "spiece.model", {"extra_ids": 0}),
    "pegasus": ("PegasusTokenizer", "spiece.model", {"offset": 2}),
}
SYLLABLES = ["ka", "to", "ri", "mu", "sel", "an", "bor", "ti", "ne", "Ul", "é", "zon"]
CHINESE_CHARACTERS = "却说那唐僧忧愁随着国王至后宫只听得鼓乐喧天闻异香扑鼻低头不敢仰视行者暗里欣然"
TINY_MAX_LENGTH = 128  # positions of a tiny model
TINY_SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTIMENT_WORDS = {
    "good": ["great", "lovely", "superb", "warm", "funny", "bright", "fine", "moving"],
    "bad": ["dull", "awful", "weak", "cold", "boring", "dreary", "poor", "clumsy"],
}
FILLER_WORDS = ["the", "film", "was", "a", "very", "story", "with", "actors", "and", "its", "scenes"]


def make_tiny_tokenizer(folder: Path, texts: Sequence[str] = (), pad: bool = True) -> Any:
    """Write a WordPiece tokenizer to `folder`: words of `texts` and of `make_reviews`, their letters, and digits.

    The vocabulary is not trained: training breaks ties differently in each process.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted(
        {
            *SENTIMENT_WORDS["good"],
            *SENTIMENT_WORDS["bad"],
            *FILLER_WORDS,
            *(word for text in texts for word in text.lower().split()),
        }
    )
    letters = sorted({char for word in words for char in word} | set("0123456789"))
    pieces = dict.fromkeys([*TINY_SPECIAL_TOKENS, *letters, *(f"##{char}" for char in letters), *words])
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"} | ({"pad": "[PAD]"} if pad else {})
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=TINY_MAX_LENGTH,
        **{f"{key}_token": token for key, token in names.items()},
    )
    fast.save_pretrained(folder)
    return fast


def make_sentencepiece_tokenizer(folder: Path, kind: str, texts: Sequence[str] = ()) -> Any:
    """Write a tokenizer of SENTENCEPIECE_TOKENIZERS to `folder`, trained on `texts` and `make_reviews`.

    Needs the package sentencepiece.
    """
    from transformers import AutoTokenizer

    from llmkit.models.load import silence_transformers

    folder.mkdir(parents=True, exist_ok=True)
    name, file, fields = SENTENCEPIECE_TOKENIZERS[kind]
    corpus = [*texts, *(row["text"] for row in make_reviews(64))]
    pieces = train_sentencepiece(folder / file, corpus, pad_first=file == "spiece.model")
    if kind == "marian":
        pieces += train_sentencepiece(folder / "target.spm", [text.upper() for text in corpus])
        write_vocab_json(folder, ["</s>", "<unk>", *pieces, "<pad>"])
    elif kind == "m2m_100":
        write_vocab_json(folder, ["<s>", "<pad>", "</s>", "<unk>", *pieces])
    config = {"tokenizer_class": name, "model_max_length": TINY_MAX_LENGTH} | fields
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with silence_transformers():
        return AutoTokenizer.from_pretrained(folder)


def train_sentencepiece(path: Path, texts: Sequence[str], pad_first: bool = False) -> list[str]:
    """Train a SentencePiece model, write it to `path`, and return its tokens without the special ones."""
    import sentencepiece

    ends: dict[str, Any] = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1} if pad_first else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(path.with_suffix("")), vocab_size=90, hard_vocab_limit=False,
        model_type="unigram" if pad_first else "bpe", minloglevel=2, num_threads=1, **ends,
    )  # fmt: skip
    path.with_suffix(".vocab").unlink()
    path.with_suffix(".model").rename(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]


def write_vocab_json(folder: Path, pieces: Sequence[str]) -> None:
    """Write vocab.json (token -> id) for tokenizers with ids of their own."""
    numbers = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    (folder / "vocab.json").write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")


def make_tiny_model(
    folder: str | Path,
    family: str = "bert",
    *,
    texts: Sequence[str] = (),
    auto_class: str = "AutoModel",
    pad: bool = True,
    seed: int = 0,
    tokenizer_kind: str | None = None,
    **config: Any,
) -> str:
    """Write a two-layer model with random weights to a Hugging Face folder and return the folder's path.

    `family`: a model type of ENCODER_CONFIGS or SEQ2SEQ_CONFIGS. `texts`: words for the vocabulary. `config` overrides
    config fields. An encoder-decoder uses [CLS] and [SEP] as start and end tokens, or the SentencePiece tokenizer
    `tokenizer_kind` of SENTENCEPIECE_TOKENIZERS.
    """
    import torch
    import transformers

    from llmkit.models.load import silence_transformers

    folder = Path(folder)
    tokenizer = (
        make_tiny_tokenizer(folder, texts, pad)
        if tokenizer_kind is None
        else make_sentencepiece_tokenizer(folder, tokenizer_kind, texts)
    )
    fields = {
        # The length of M2M100's tokenizer excludes language codes.
        "vocab_size": len(tokenizer) + len(getattr(tokenizer, "lang_token_to_id", ())),
        "max_position_embeddings": TINY_MAX_LENGTH + 2,
        "pad_token_id": 0 if tokenizer_kind is None else tokenizer.pad_token_id,
        "initializer_range": 0.1,
    } | (ENCODER_CONFIGS | SEQ2SEQ_CONFIGS)[family]
    ids: dict[str, int | None] = {f"{name}_token_id": None for name in ("bos", "eos", "cls", "sep")}
    if family in SEQ2SEQ_CONFIGS:
        auto_class = "AutoModelForSeq2SeqLM"
        ids |= {"bos_token_id": 2, "decoder_start_token_id": 2, "eos_token_id": 3, "forced_eos_token_id": None}
    if tokenizer_kind is not None:  # Marian's decoder starts with padding
        start = tokenizer.pad_token_id if tokenizer.bos_token_id is None else tokenizer.eos_token_id
        ids |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        ids |= {"decoder_start_token_id": start}
    model_config = transformers.AutoConfig.for_model(family, **fields | ids | config)
    with torch.random.fork_rng(), silence_transformers():
        torch.manual_seed(seed)
        model = getattr(transformers, auto_class).from_config(model_config)
        model.save_pretrained(folder)
    return str(folder)


def make_reviews(rows: int = 40, seed: int = 0, labels: Sequence[str] = ("bad", "good")) -> list[dict[str, str]]:
    """Return rows of `text` and `label` that a tiny model learns quickly; texts are distinct and vary in length."""
    generator = random.Random(seed)
    examples = []
    for i in range(rows):
        words = [generator.choice(FILLER_WORDS) for _ in range(generator.randint(0, 12))]
        words += [generator.choice(SENTIMENT_WORDS[("bad", "good")[i % 2]]) for _ in range(generator.randint(1, 3))]
        generator.shuffle(words)
        examples.append({"text": f"{' '.join(words)} {i}", "label": labels[i % 2]})
    return examples


def make_articles(rows: int = 32, seed: int = 0) -> list[dict[str, str]]:
    """Return rows of `text` and `summary`: the summary is the last and the first word of the text."""
    return [{"text": row["text"], "summary": f"{row['text'].split()[-1]} {row['text'].split()[0]}"}
            for row in make_reviews(rows, seed)]  # fmt: skip


def make_sentences(number: int = 300, seed: int = 0, chinese: bool = False) -> list[str]:
    """Return lines of up to 15 made-up words (600 in all), or of up to 30 Chinese characters without spaces."""
    generator = random.Random(seed)
    words = list(CHINESE_CHARACTERS) if chinese else [
        "".join(generator.choices(SYLLABLES, k=generator.randint(1, 4))) for _ in range(600)
    ]  # fmt: skip
    space, end, longest = ("", "。", 30) if chinese else (" ", ".", 15)
    return [space.join(generator.choices(words, k=generator.randint(1, longest))) + end for _ in range(number)]


def write_lines(path: str | Path, texts: Sequence[str]) -> str:
    """Write one text per line and return the path."""
    Path(path).write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def write_jsonl(path: str | Path, rows: Sequence[dict[str, Any]]) -> str:
    """Write the rows as JSONL and return the path."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


# One epoch of plain SGD, neither evaluated nor saved: an update is learning_rate times the gradient, so that tests can
# compare it with autograd.
PLAIN_SGD_KEYS = (
    "train.num_train_epochs=1", "train.eval_strategy=no", "train.save_strategy=no", "train.optim=sgd",
    "train.lr_scheduler_type=constant", "train.warmup_steps=0", "train.weight_decay=0", "train.max_grad_norm=0",
)  # fmt: skip


def make_tiny_trainer(
    task: Task,
    loaded: LoadedModel,
    rows: Rows,
    folder: str | Path,
    *keys: str,
    max_length: int = 64,
    precision: str = "fp32",
    fast_path: str = "auto",
) -> StepTrainer:
    """Build the trainer of a run on `rows`, without validation rows; `train()` starts it.

    task: fitted on the rows. loaded: its model and tokenizer. keys: KEY=VALUE of the recipe's
    train section, such as PLAIN_SGD_KEYS.
    """
    from llmkit.recipe.load import load_recipe
    from llmkit.training.arguments import build_training_arguments
    from llmkit.training.setup.step_size import count_row_tokens, resolve_step_size
    from llmkit.training.trainer import StepTrainer

    recipe, metric = load_recipe(None, keys, task="classify"), task.metrics[0]  # the train section of any task
    return StepTrainer(
        loaded.model,
        build_training_arguments(recipe, Path(folder), precision, metric),
        task=task,
        tokenizer=loaded.tokenizer,
        train=task.encode_train(rows, loaded.tokenizer, max_length).features,
        validation=[],
        references=[],
        metrics=[metric],
        step_size=resolve_step_size(recipe.train, 1, count_row_tokens(task, max_length)),
        fast_path=fast_path,
    )


def flatten_weights(model: Any) -> Any:
    """Return all weights of a model as one vector [parameters]."""
    import torch

    return torch.cat([weight.detach().flatten() for weight in model.parameters()])
