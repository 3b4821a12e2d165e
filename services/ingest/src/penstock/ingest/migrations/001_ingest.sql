-- The highest number given for a document, and where the last record taken in lies.
-- Never deleted: a row is the tombstone that keeps old records out.
CREATE TABLE document (
    tenant     text   NOT NULL,
    id         text   NOT NULL,
    version    int    NOT NULL DEFAULT 0,
    collection text   NOT NULL DEFAULT 'default',
    cluster    text,
    partition  int,
    "offset"   bigint,
    appended   bigint, -- milliseconds since the epoch, by the broker
    PRIMARY KEY (tenant, id)
);

-- What was taken in under which id. The content goes when a document is removed or a newer version
-- is indexed; id, version and fingerprint stay for ever.
CREATE TABLE submission (
    tenant      text        NOT NULL,
    document    text        NOT NULL,
    id          text        NOT NULL,
    version     int         NOT NULL,
    cluster     text        NOT NULL,
    partition   int         NOT NULL,
    "offset"    bigint      NOT NULL,
    appended    bigint      NOT NULL,
    fingerprint text,                          -- null: a delete
    generation  int         NOT NULL,
    unchanged   boolean     NOT NULL DEFAULT false,
    confirmed   boolean     NOT NULL DEFAULT false,
    purged      boolean     NOT NULL DEFAULT false,
    blob        text,
    title       text,
    filename    text,
    metadata    jsonb,
    access      text[],
    taken_in_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, document, id),
    FOREIGN KEY (tenant, document) REFERENCES document (tenant, id)
);

-- A number is given to one submission; equal ones share it.
CREATE UNIQUE INDEX submission_version ON submission (tenant, document, version) WHERE NOT unchanged;

GRANT USAGE ON SCHEMA ingest TO ingest_request;
GRANT SELECT ON document, submission TO ingest_request;
ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE submission ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON document TO ingest_request
    USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON submission TO ingest_request
    USING (tenant = current_setting('app.tenant'));
