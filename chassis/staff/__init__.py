"""Staff of the vendor: who they are, by the word of an identity provider, and what they may do."""
