-- One call keeps a draft: it stands between an answer and the next question of its partition.

CREATE FUNCTION keep_draft(
    of_tenant text, of_question text, of_ask integer, of_round integer, of_sentences jsonb,
    documents text[], versions integer[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- A removal takes the same locks: whichever comes second sees the first. In order, so that two
    -- drafts of the same documents do not wait for each other; each statement sees what is
    -- committed when it begins.
    PERFORM pg_advisory_xact_lock(hashtextextended(of_tenant || '/' || name, 0))
    FROM (SELECT DISTINCT unnest(documents) AS name ORDER BY name) AS named;
    IF EXISTS (
        SELECT FROM unnest(documents, versions) AS source (name, number)
        JOIN removed_document AS removed
            ON removed.tenant = of_tenant AND removed.document = source.name
        WHERE source.number <= removed.version
    ) THEN
        RETURN false;
    END IF;
    INSERT INTO draft (tenant, question, ask, round, sentences)
    VALUES (of_tenant, of_question, of_ask, of_round, of_sentences)
    ON CONFLICT DO NOTHING;
    INSERT INTO draft_source (tenant, document, version, question, ask, round)
    SELECT of_tenant, name, number, of_question, of_ask, of_round
    FROM unnest(documents, versions) AS source (name, number)
    ON CONFLICT DO NOTHING;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION keep_draft FROM PUBLIC;
