"""What an answer takes from its source, and what it says twice; each function reads words and gives one number."""

from __future__ import annotations

from collections.abc import Sequence

from llmkit.metrics.text.rouge import list_ngrams

WordSequence = Sequence[str]

REPETITION_NGRAM = 3  # words in a run that may be said twice: the length that no_repeat_ngram_size usually has
NOVELTY_NGRAM = 2


def compute_repetition(answer: WordSequence) -> float:
    """The share of the answer's runs of three words that stood in it before; 0 for fewer words.

    Source: seq-rep-n of Welleck et al. 2020, arXiv:1908.04319.
    """
    runs = list_ngrams(answer, REPETITION_NGRAM)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def compute_novelty(source: WordSequence, answer: WordSequence) -> float:
    """The share of the answer's pairs of neighbouring words that the source has not; 0 for fewer words.

    Source: novel bigrams of See, Liu and Manning 2017, arXiv:1704.04368.
    """
    runs, known = list_ngrams(answer, NOVELTY_NGRAM), set(list_ngrams(source, NOVELTY_NGRAM))
    return sum(run not in known for run in runs) / len(runs) if runs else 0.0


def compute_coverage(source: WordSequence, answer: WordSequence) -> float:
    """The share of the answer's words that stand in a fragment of the source (see `fragments`); 0 without words."""
    return sum(find_fragments(source, answer)) / len(answer) if answer else 0.0


def compute_density(source: WordSequence, answer: WordSequence) -> float:
    """The mean length of the fragment that a word of the answer stands in, 0 for a word of its own."""
    return sum(size**2 for size in find_fragments(source, answer)) / len(answer) if answer else 0.0


def find_fragments(source: WordSequence, answer: WordSequence) -> list[int]:
    """The lengths of the runs of words that the answer shares with the source, each taken as long as it can be.

    Source: extractive fragments of Grusky, Naaman and Artzi 2018, arXiv:1804.11283, figure 3.
    """
    # A letter a word: then looking for a run is looking for a string, which C does.
    letter = {word: chr(code) for code, word in enumerate(dict.fromkeys(source), start=1)}
    text, said = "".join(letter[word] for word in source), "".join(letter.get(word, "\0") for word in answer)
    found, at = [], 0
    while at < len(said):
        end = at
        while end < len(said) and said[at : end + 1] in text:
            end += 1
        if end > at:
            found.append(end - at)
        at = max(end, at + 1)
    return found
