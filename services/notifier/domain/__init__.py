"""The rules of notifier: plain values in, a decision out."""
