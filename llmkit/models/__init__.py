"""Models and tokenizers: locating, loading, checking, adapting and saving them."""
