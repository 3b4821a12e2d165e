-- What searches need beside the tables. Under row-level security an operator that is not leakproof
-- (@> on jsonb, && on arrays) is only a filter and never reaches its index. This function runs as
-- the owner and names the tenant itself, so that a selective filter costs what it selects.

CREATE INDEX chunk_access ON chunk USING gin (access) WHERE access IS NOT NULL;
CREATE INDEX chunk_open ON chunk (tenant, generation, collection) WHERE access IS NULL;
CREATE INDEX chunk_restricted ON chunk (tenant, generation, collection) WHERE access IS NOT NULL;

-- Numbers of all chunks that a search may find, or null when there are more than `most`: then the
-- search is not selective. A superset: metadata is narrowed by containment of one of `wanted` alone
-- (null: not at all), so the search still applies its whole filter.
CREATE FUNCTION narrowed(of_generation int, of_collection text, wanted jsonb[], groups text[], most int)
RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = retrieve, pg_temp
AS $$
DECLARE
    owner text := current_setting('app.tenant');
    found bigint[];
BEGIN
    IF wanted IS NOT NULL THEN
        found := ARRAY(
            SELECT id FROM chunk
            WHERE tenant = owner AND generation = of_generation AND collection = of_collection
              AND metadata @> ANY (wanted)
            LIMIT most + 1);
    ELSIF EXISTS (
        SELECT FROM chunk
        WHERE tenant = owner AND generation = of_generation AND collection = of_collection
          AND access IS NOT NULL
    ) THEN
        found := ARRAY(
            (SELECT id FROM chunk
             WHERE tenant = owner AND generation = of_generation AND collection = of_collection
               AND access IS NULL
             LIMIT most + 1)
            UNION ALL
            (SELECT id FROM chunk
             WHERE tenant = owner AND generation = of_generation AND collection = of_collection
               AND access && groups
             LIMIT most + 1));
    ELSE
        found := ARRAY(
            SELECT id FROM chunk
            WHERE tenant = owner AND generation = of_generation AND collection = of_collection
            LIMIT most + 1);
    END IF;
    RETURN CASE WHEN cardinality(found) <= most THEN found END;
END
$$;
REVOKE ALL ON FUNCTION narrowed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION narrowed TO retrieve_request;
