"""Copying from the source and repetition, measured on the words of a generated text."""

from __future__ import annotations

from llmkit.metrics.text.rouge import WordSequence, list_ngrams

REPETITION_NGRAM = 3  # words; the usual no_repeat_ngram_size
NOVELTY_NGRAM = 2


def compute_repetition(prediction: WordSequence) -> float:
    """Compute the share of the prediction's trigrams that occurred before in it; 0 for fewer than three words.

    Source: seq-rep-n of Welleck et al. 2020, arXiv:1908.04319.
    """
    trigrams = list_ngrams(prediction, REPETITION_NGRAM)
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def compute_novelty(source: WordSequence, prediction: WordSequence) -> float:
    """Compute the share of the prediction's bigrams that are not in the source; 0 for fewer than two words.

    Source: novel bigrams of See, Liu and Manning 2017, arXiv:1704.04368.
    """
    bigrams, source_bigrams = list_ngrams(prediction, NOVELTY_NGRAM), set(list_ngrams(source, NOVELTY_NGRAM))
    return sum(one not in source_bigrams for one in bigrams) / len(bigrams) if bigrams else 0.0


def compute_coverage(source: WordSequence, prediction: WordSequence) -> float:
    """Compute the share of the prediction's words in a fragment of the source (`find_fragments`); 0 without words."""
    return sum(find_fragments(source, prediction)) / len(prediction) if prediction else 0.0


def compute_density(source: WordSequence, prediction: WordSequence) -> float:
    """Compute the mean length of the fragment of each word of the prediction; a word in no fragment counts as 0."""
    return sum(size**2 for size in find_fragments(source, prediction)) / len(prediction) if prediction else 0.0


def find_fragments(source: WordSequence, prediction: WordSequence) -> list[int]:
    """Return the lengths of the longest runs of words that the prediction shares with the source, left to right.

    Source: extractive fragments of Grusky, Naaman and Artzi 2018, arXiv:1804.11283, figure 3.
    """
    # Each word becomes one character, so that a run of words is a substring, which C searches quickly.
    letter = {word: chr(code) for code, word in enumerate(dict.fromkeys(source), start=1)}
    text, predicted = "".join(letter[word] for word in source), "".join(letter.get(word, "\0") for word in prediction)
    lengths, at = [], 0
    while at < len(predicted):
        end = at
        while end < len(predicted) and predicted[at : end + 1] in text:
            end += 1
        if end > at:
            lengths.append(end - at)
        at = max(end, at + 1)
    return lengths
