"""What purger shows: to anybody receipts and the ledger, to staff the board and the brake."""
