"""The rules of purger: plain values in, a decision out."""
