-- The ledger records restores too: of purger, and what came back to an owner and was erased again.

ALTER TABLE ledger DROP CONSTRAINT ledger_part_check;
ALTER TABLE ledger ADD CONSTRAINT ledger_part_check CHECK (
    part IN ('wave-1', 'wave-2', 'receipt-erased', 'receipt-closed') OR part LIKE 'restored/%');
