-- From 0.1.0 to 1.0.0: what 1.0.0 declares anew or otherwise, and nothing else. tests/upgrade.rs compares
-- the outcome with a fresh install. No object of SQL has changed yet.

\echo Use "ALTER EXTENSION api_tokens UPDATE" to load this file. \quit
