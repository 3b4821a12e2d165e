-- What the API knows: jobs and what became of them, documents as seen in the events, the outbox.
-- The service's own role owns the schema and writes in the background; api_request is what an
-- HTTP request runs as, and sees the rows of one tenant.

CREATE TABLE job (
    tenant        text NOT NULL,
    id            text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('document', 'removal', 'question')),
    state         text NOT NULL DEFAULT 'accepted'
                  CHECK (state IN ('accepted', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt       int NOT NULL DEFAULT 1,
    ask           int NOT NULL DEFAULT 1,
    documents     int,                      -- announced by the door; null: published to the topic
    request       jsonb,
    error         jsonb,
    progress      jsonb NOT NULL DEFAULT '{}',
    callback_url  text,
    key           text,                     -- the API key that asked; null: published to the topic
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    progressed_at timestamptz,
    finished_at   timestamptz,
    deadline      timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX job_recent ON job (tenant, created_at DESC, id DESC);
CREATE INDEX job_open ON job (deadline, progressed_at) WHERE state IN ('accepted', 'running');
CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL;

-- One part of a job: a document, or (document = '') its question.
CREATE TABLE part (
    tenant          text NOT NULL,
    job             text NOT NULL,
    document        text NOT NULL,
    ordinal         int NOT NULL DEFAULT 0,
    version         int,
    batches         int NOT NULL DEFAULT 1,  -- n of its batches, as far as known
    outcome         text,
    outcome_attempt int,
    error           jsonb,
    ended           boolean NOT NULL DEFAULT false,
    failure         jsonb,                   -- why it ended badly
    blocked         jsonb,                   -- the open dead letter that stops it
    PRIMARY KEY (tenant, job, document),
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);

CREATE TABLE dead_letter (
    tenant      text NOT NULL,
    job         text NOT NULL,
    document    text NOT NULL,
    topic       text NOT NULL,
    "partition" int NOT NULL,
    "offset"    bigint NOT NULL,
    attempt     int NOT NULL,
    stage       text,
    k           int NOT NULL DEFAULT 0,
    redriven    boolean NOT NULL DEFAULT false,
    error       jsonb,
    PRIMARY KEY (tenant, job, document, topic, "partition", "offset"),
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);

-- Kafka cannot delete one record of a topic: what was decided about it is kept here.
CREATE TABLE dead_letter_decision (
    tenant      text NOT NULL,
    topic       text NOT NULL,
    "partition" int NOT NULL,
    "offset"    bigint NOT NULL,
    decision    text NOT NULL CHECK (decision IN ('redriven', 'dropped')),
    key         text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, "partition", "offset")
);

-- A row per thing done, so that a redelivery counts once.
CREATE TABLE progress (
    tenant   text NOT NULL,
    job      text NOT NULL,
    document text NOT NULL,
    version  int NOT NULL,
    stage    text NOT NULL,
    k        int NOT NULL,
    PRIMARY KEY (tenant, job, document, version, stage, k),
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);

-- What a client that follows a job is sent; `once` makes a redelivery harmless.
CREATE TABLE job_event (
    id     bigserial PRIMARY KEY,
    tenant text NOT NULL,
    job    text NOT NULL,
    kind   text NOT NULL CHECK (kind IN ('progress', 'sentence', 'retracted', 'end')),
    once   text,
    data   jsonb NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant, job, once),
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);
CREATE INDEX job_event_of ON job_event (tenant, job, id);

CREATE TABLE answer (
    tenant text NOT NULL,
    job    text NOT NULL,
    result jsonb NOT NULL,
    PRIMARY KEY (tenant, job),
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);

-- Which jobs hold text of which document: what a delete has to purge here.
CREATE TABLE quotation (
    tenant   text NOT NULL,
    document text NOT NULL,
    version  int NOT NULL,
    job      text NOT NULL,
    PRIMARY KEY (tenant, document, version, job),
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);

CREATE TABLE document (
    tenant              text NOT NULL,
    id                  text NOT NULL,
    collection          text NOT NULL DEFAULT 'default',
    latest_version      int,
    latest_state        text NOT NULL DEFAULT 'pending' CHECK (
        latest_state IN ('pending', 'searchable', 'quarantined', 'failed', 'removed')),
    latest_error        jsonb,
    searchable_version  int,
    removed_version     int,
    chunks              int,
    position            jsonb,              -- of the latest version
    searchable_position jsonb,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    searchable_at       timestamptz,
    removed_at          timestamptz,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE receipt (
    tenant     text NOT NULL,
    document   text NOT NULL,
    version    int NOT NULL,
    job        text NOT NULL,
    removed_at timestamptz NOT NULL,
    elapsed_ms int NOT NULL,
    PRIMARY KEY (tenant, document, version)
);
CREATE INDEX receipt_of ON receipt (tenant, job);

CREATE TABLE receipt_store (
    tenant    text NOT NULL,
    document  text NOT NULL,
    version   int NOT NULL,
    store     text NOT NULL,
    purged_at timestamptz NOT NULL,
    note      text,
    PRIMARY KEY (tenant, document, version, store)
);

-- Events on their way to Kafka. One relay publishes them in sequence and marks each; a published
-- row keeps no value, so that nothing of a document stays behind here.
CREATE TABLE outbox (
    sequence     bigserial PRIMARY KEY,
    tenant       text NOT NULL,
    topic        text NOT NULL,
    key          bytea,
    headers      jsonb NOT NULL,
    value        bytea,
    announces    jsonb,                     -- a delete's null record: removal.requested follows it
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz
);
CREATE INDEX outbox_waiting ON outbox (sequence) WHERE published_at IS NULL;

CREATE TABLE idempotency (
    tenant  text NOT NULL,
    key     text NOT NULL,
    name    text NOT NULL,
    request bytea NOT NULL,
    job     text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, key, name)
);

CREATE TABLE api_key (
    id           text PRIMARY KEY,
    tenant       text NOT NULL,
    name         text NOT NULL,
    secret_hash  bytea NOT NULL,
    roles        text[] NOT NULL,
    groups       text[] NOT NULL DEFAULT '{}',
    is_global    boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at   timestamptz
);
CREATE INDEX api_key_of ON api_key (tenant, created_at);

CREATE TABLE collection (
    tenant text NOT NULL,
    name   text NOT NULL,
    config jsonb NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE webhook (
    id           text PRIMARY KEY,
    tenant       text NOT NULL,
    job          text NOT NULL,
    key          text NOT NULL,
    url          text NOT NULL,
    body         jsonb NOT NULL,
    attempts     int NOT NULL DEFAULT 0,
    next_at      timestamptz DEFAULT clock_timestamp(),   -- null: delivered or given up
    delivered_at timestamptz,
    error        text,
    FOREIGN KEY (tenant, job) REFERENCES job ON DELETE CASCADE
);
CREATE INDEX webhook_due ON webhook (next_at) WHERE next_at IS NOT NULL;

GRANT USAGE ON SCHEMA api TO api_request;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA api TO api_request;
GRANT SELECT ON part, progress, dead_letter, answer, quotation, receipt, receipt_store,
    webhook TO api_request;
GRANT SELECT, INSERT, UPDATE ON job, part, document, job_event, api_key, collection, webhook,
    dead_letter, dead_letter_decision TO api_request;
GRANT SELECT, INSERT ON idempotency TO api_request;
GRANT INSERT ON outbox TO api_request;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'job', 'part', 'dead_letter', 'dead_letter_decision', 'progress', 'job_event', 'answer',
        'quotation', 'document', 'receipt', 'receipt_store', 'outbox', 'idempotency', 'api_key',
        'collection', 'webhook']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO api_request '
            'USING (tenant = current_setting(''app.tenant'')) '
            'WITH CHECK (tenant = current_setting(''app.tenant''))', name);
    END LOOP;
END $$;
