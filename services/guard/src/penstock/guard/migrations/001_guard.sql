-- What guard decided, and what it holds. The owning role writes; the doors run as guard_request
-- under row-level security.

GRANT USAGE ON SCHEMA guard TO guard_request;

-- One row per document ever screened. Its lock orders everything that is done to the document;
-- retired_version is never dropped: nothing at or below it may be stored again.
CREATE TABLE document (
    tenant          text NOT NULL,
    id              text NOT NULL,
    retired_version int NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id)
);

-- One row per batch screened. Findings name places, never the words found there.
CREATE TABLE document_verdict (
    tenant     text NOT NULL,
    document   text NOT NULL,
    version    int NOT NULL,
    generation int NOT NULL,
    cut        text NOT NULL,
    k          int NOT NULL,
    n          int NOT NULL,
    held       boolean NOT NULL,
    policy     text NOT NULL,
    action     text NOT NULL,
    findings   jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, document, version, generation, cut, k)
);

-- A version that a person has to look at.
CREATE TABLE quarantine (
    id         uuid PRIMARY KEY,
    number     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- order of the pages
    tenant     text NOT NULL,
    document   text NOT NULL,
    version    int NOT NULL,
    collection text NOT NULL,
    title      text,
    n          int NOT NULL,
    state      text NOT NULL DEFAULT 'reading'              -- until all n verdicts are there
               CHECK (state IN ('reading', 'waiting', 'released', 'rejected')),
    event      jsonb NOT NULL,                              -- document, submission, position, …
    envelope   jsonb NOT NULL,
    key        text NOT NULL,
    decided_by text,
    decided_at timestamptz,
    comment    text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, document, version)
);

CREATE INDEX quarantine_page ON quarantine (tenant, number DESC);

-- The batches of quarantined versions, as they would have been published.
CREATE TABLE held (
    tenant     text NOT NULL,
    document   text NOT NULL,
    version    int NOT NULL,
    generation int NOT NULL,
    cut        text NOT NULL,
    k          int NOT NULL,
    envelope   jsonb NOT NULL,
    key        text NOT NULL,
    batch      text NOT NULL,          -- document.cleared as JSON
    PRIMARY KEY (tenant, document, version, generation, cut, k)
);

-- One row per question and per sentence or answer screened; never their text.
CREATE TABLE dialogue_verdict (
    tenant     text NOT NULL,
    question   text NOT NULL,          -- the job
    gate       text NOT NULL CHECK (gate IN ('question', 'answer')),
    ask        int NOT NULL,
    round      int NOT NULL,
    sentence   int NOT NULL,
    final      boolean NOT NULL,
    collection text,                   -- of the question: names the policy of its answers
    policy     text NOT NULL,
    action     text NOT NULL,
    findings   jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, question, gate, ask, round, sentence, final)
);

GRANT SELECT, UPDATE ON document, quarantine TO guard_request;
GRANT SELECT, DELETE ON held TO guard_request;
GRANT SELECT ON document_verdict, dialogue_verdict TO guard_request;

ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE quarantine ENABLE ROW LEVEL SECURITY;
ALTER TABLE held ENABLE ROW LEVEL SECURITY;
ALTER TABLE document_verdict ENABLE ROW LEVEL SECURITY;
ALTER TABLE dialogue_verdict ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON document TO guard_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON quarantine TO guard_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON held TO guard_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON document_verdict TO guard_request
    USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON dialogue_verdict TO guard_request
    USING (tenant = current_setting('app.tenant'));
