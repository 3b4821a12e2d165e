-- The index: what is searchable, how far each document is, and what still has to be forgotten.
-- The owning role writes; searches run as retrieve_request under row-level security.

GRANT USAGE ON SCHEMA retrieve TO retrieve_request;

-- One row per document ever heard of. Its lock orders everything that is done to the document.
-- A removed document keeps its row: removed_version keeps what came before from coming back.
CREATE TABLE document (
    tenant          text NOT NULL,
    id              text NOT NULL,
    collection      text NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'searchable', 'removed')),
    version         int NOT NULL DEFAULT 0,   -- highest that was indexed or removed
    removed_version int NOT NULL DEFAULT 0,   -- nothing at or below it may be stored again
    removed_at      timestamptz,
    title           text,
    chunks          int NOT NULL DEFAULT 0,
    position        jsonb,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);

-- The version of a document that is searchable in a generation.
CREATE TABLE indexed (
    tenant     text NOT NULL,
    generation int NOT NULL,
    document   text NOT NULL,
    version    int NOT NULL,
    chunks     int NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (tenant, document, generation)
);

CREATE SEQUENCE chunk_number;

-- chunk_id is derived from what a chunk is made of (tenant, document, generation, title, heading
-- path, text), so a chunk that a new version leaves alone is found again by it and keeps its
-- number, its vector and its postings; only the other columns follow the new version.
CREATE TABLE chunk (
    id           bigint PRIMARY KEY,          -- from chunk_number; segments hold it as base + int32
    chunk_id     uuid NOT NULL,
    tenant       text NOT NULL,
    generation   int NOT NULL,
    collection   text NOT NULL,
    document     text NOT NULL,
    version      int NOT NULL,
    ordinal      int NOT NULL,
    text         text NOT NULL,
    kind         text NOT NULL,
    page         int,
    heading_path text[] NOT NULL,
    span_start   int NOT NULL,
    span_end     int NOT NULL,
    title        text,
    metadata     jsonb NOT NULL,
    access       text[],                      -- groups that may read it; null: the whole tenant
    findings     jsonb NOT NULL,
    length       int NOT NULL                 -- in terms
) WITH (fillfactor = 90);

CREATE INDEX chunk_of_document ON chunk (tenant, generation, document, ordinal);
CREATE INDEX chunk_of_collection ON chunk (tenant, generation, collection);
CREATE INDEX chunk_metadata ON chunk USING gin (metadata jsonb_path_ops);

-- Vectors of generation 1, apart from the rest: a row that holds one must never be updated.
CREATE TABLE embedding_1 (
    chunk  bigint PRIMARY KEY REFERENCES chunk (id) ON DELETE CASCADE,
    tenant text NOT NULL,
    vector public.halfvec(384) NOT NULL       -- L2-normalised: inner product is cosine
) WITH (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE embedding_1 ALTER COLUMN vector SET STORAGE PLAIN;

CREATE INDEX embedding_1_hnsw ON embedding_1
    USING hnsw (vector public.halfvec_ip_ops) WITH (m = 16, ef_construction = 64);

-- BM25 as Lucene keeps it: immutable segments. A chunk is in exactly one segment of its generation
-- until a merge finds it dead. Replaced and removed chunks stay in the postings till then, counted
-- in chunks and total_length, and fall out of results at the join with chunk.
CREATE TABLE segment (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL,
    generation   int NOT NULL,
    base         bigint NOT NULL,             -- lowest chunk.id in it
    chunks       int NOT NULL,
    total_length bigint NOT NULL,             -- in terms
    members      bytea NOT NULL               -- int32 LE, chunk.id - base, ascending
);
ALTER TABLE segment ALTER COLUMN members SET STORAGE EXTERNAL;
CREATE INDEX segment_of_tenant ON segment (tenant, generation);

-- Arrays of equal length, little-endian, ascending by chunk within a block.
CREATE TABLE posting_block (
    tenant     text NOT NULL,
    generation int NOT NULL,
    term       text COLLATE "C" NOT NULL,
    segment    bigint NOT NULL,               -- segment.id; no foreign key: a check per block is dear
    chunks     bytea NOT NULL,                -- int32, chunk.id - segment.base
    tfs        bytea NOT NULL,                -- uint8, at most 255
    lengths    bytea NOT NULL,                -- uint16, terms of the chunk, at most 65535
    PRIMARY KEY (tenant, generation, term, segment)
);
ALTER TABLE posting_block
    ALTER COLUMN chunks SET STORAGE EXTERNAL,
    ALTER COLUMN tfs SET STORAGE EXTERNAL,
    ALTER COLUMN lengths SET STORAGE EXTERNAL;
CREATE INDEX posting_block_of_segment ON posting_block (segment);

-- What BM25 needs to know of a whole generation; consistent with the blocks of the same statement.
CREATE VIEW corpus WITH (security_invoker = true) AS
    SELECT tenant, generation, sum(chunks)::bigint AS chunks, sum(total_length)::bigint AS total_length
    FROM segment GROUP BY tenant, generation;

-- Chunks that are gone but whose postings are not yet; a merge takes both away.
CREATE TABLE dead_chunk (
    chunk      bigint PRIMARY KEY,
    tenant     text NOT NULL,
    generation int NOT NULL,
    document   text NOT NULL
);
CREATE INDEX dead_chunk_of_document ON dead_chunk (tenant, document);

-- Batches of versions that are not complete yet: the raw event, one row each.
CREATE TABLE staging (
    tenant     text NOT NULL,
    document   text NOT NULL,
    version    int NOT NULL,
    generation int NOT NULL,
    cut        text NOT NULL,
    k          int NOT NULL,
    n          int NOT NULL,
    payload    bytea NOT NULL,
    staged_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, document, version, generation, cut, k)
);
ALTER TABLE staging ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Removals whose document.purged is still owed.
CREATE TABLE purge (
    tenant   text NOT NULL,
    document text NOT NULL,
    version  int NOT NULL,
    event    jsonb NOT NULL,                  -- the document.retired it answers
    key      text NOT NULL,
    envelope jsonb NOT NULL,
    PRIMARY KEY (tenant, document, version)
);

GRANT SELECT ON document, indexed, chunk, embedding_1, segment, posting_block, corpus TO retrieve_request;

ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE indexed ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE embedding_1 ENABLE ROW LEVEL SECURITY;
ALTER TABLE segment ENABLE ROW LEVEL SECURITY;
ALTER TABLE posting_block ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON document TO retrieve_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON indexed TO retrieve_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON chunk TO retrieve_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON embedding_1 TO retrieve_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON segment TO retrieve_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON posting_block TO retrieve_request USING (tenant = current_setting('app.tenant'));
