-- Drafts of answers, so that a redelivered question does not pay for a model twice, and which
-- documents each was written from, so that a deleted document leaves no text behind.

GRANT USAGE ON SCHEMA generate TO generate_request;

CREATE TABLE draft (
    tenant text NOT NULL,
    question text NOT NULL,
    ask integer NOT NULL,
    round integer NOT NULL,
    sentences jsonb NOT NULL,  -- the events as published, the final one last
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, question, ask, round)
);

CREATE TABLE draft_source (
    tenant text NOT NULL,
    document text NOT NULL,
    version integer NOT NULL,
    question text NOT NULL,
    ask integer NOT NULL,
    round integer NOT NULL,
    PRIMARY KEY (tenant, document, version, question, ask, round),
    FOREIGN KEY (tenant, question, ask, round) REFERENCES draft ON DELETE CASCADE
);
CREATE INDEX draft_source_draft ON draft_source (tenant, question, ask, round);

-- Never dropped: a draft from a version at or below this one is not kept, however late it comes.
CREATE TABLE removed_document (
    tenant text NOT NULL,
    document text NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (tenant, document)
);

GRANT SELECT ON draft, draft_source, removed_document TO generate_request;
ALTER TABLE draft ENABLE ROW LEVEL SECURITY;
ALTER TABLE draft_source ENABLE ROW LEVEL SECURITY;
ALTER TABLE removed_document ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON draft TO generate_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON draft_source TO generate_request USING (tenant = current_setting('app.tenant'));
CREATE POLICY tenant ON removed_document TO generate_request USING (tenant = current_setting('app.tenant'));
