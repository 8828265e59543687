"""The installer's rules: plain values in, a decision out."""
