-- Rows that are made where they are missing, and locked in the order (tenant, id). Two statements
-- each, so that the second sees what others committed while the first waited; one round trip.

CREATE FUNCTION lock_jobs(tenants text[], ids text[], kinds text[], deadlines timestamptz[])
RETURNS SETOF job LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job (tenant, id, kind, deadline)
    SELECT u.tenant, u.id, u.kind, CASE WHEN u.kind = 'question'
        THEN coalesce(u.deadline, clock_timestamp() + interval '1 hour') END
    FROM unnest(tenants, ids, kinds, deadlines) AS u(tenant, id, kind, deadline) ORDER BY 1, 2
    ON CONFLICT (tenant, id) DO UPDATE SET kind = 'removal'
        WHERE excluded.kind = 'removal' AND job.kind = 'document';
    RETURN QUERY SELECT * FROM job
        WHERE (job.tenant, job.id) IN (SELECT * FROM unnest(tenants, ids))
        ORDER BY job.tenant, job.id FOR UPDATE;
END $$;

CREATE FUNCTION lock_documents(tenants text[], ids text[])
RETURNS SETOF document LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO document (tenant, id) SELECT * FROM unnest(tenants, ids) ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT * FROM document d
        WHERE (d.tenant, d.id) IN (SELECT * FROM unnest(tenants, ids))
        ORDER BY d.tenant, d.id FOR UPDATE;
END $$;
