\set i random(1, :tokens)
\startpipeline
SELECT namespace FROM api_token_require('sk_bench_' || :i::text);
SELECT item FROM orders WHERE id = :i;
\endpipeline
