"""What a Kafka and a Postgres need before the first process starts: topics, rights, roles, schemas.

The embedded stack and `penstock bootstrap` do the same with the same code. All of it is idempotent:
it creates what is missing and leaves what is there.
"""
