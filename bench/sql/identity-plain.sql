\set i random(1, :tokens)
SELECT item FROM orders WHERE id = :i AND namespace = 'namespace-' || (:i % 1000)::text;
