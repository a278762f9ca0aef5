BEGIN;
\set i random(1, :tokens)
UPDATE quota_by_hand SET uses_left = uses_left - 1 WHERE id = :i AND uses_left >= 1 RETURNING uses_left;
\sleep 10 ms
COMMIT;
