-- What searches need beside the tables.

CREATE INDEX chunk_access ON chunk USING gin (access) WHERE access IS NOT NULL;
CREATE INDEX chunk_open ON chunk (tenant, generation, collection) WHERE access IS NULL;

-- The numbers of all chunks that a search may find, where they are so few that ranking them all
-- costs less than walking the vector index; null where they are too many.
--
-- Under row-level security an operator that is not leakproof (@> on jsonb, && on arrays) is only a
-- filter: it reaches neither its index nor its statistics. So this function runs as the owner and
-- names the tenant itself. Its answer is a superset: metadata is narrowed by containment of one of
-- `wanted` alone (null: not at all), and the search still applies its whole filter.
CREATE FUNCTION narrowed(of_generation int, of_collection text, wanted jsonb[], groups text[])
RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER  -- volatile: EXPLAIN is refused otherwise
SET search_path = retrieve, pg_temp
AS $$
DECLARE
    inside text := 'SELECT id FROM chunk WHERE tenant = $1 AND generation = $2 AND collection = $3'
        || ' AND (access IS NULL OR access && $4)'
        || CASE WHEN wanted IS NULL THEN '' ELSE ' AND metadata @> ANY ($5)' END;
    owner text := current_setting('app.tenant');
    vectors float8 := (SELECT reltuples FROM pg_class WHERE oid = ('embedding_' || of_generation)::regclass);
    -- Ranking n chunks takes n * 7 us; walking until 50 of a share s have come takes 1 ms / s:
    -- as much at n = 12 * sqrt(vectors) (measured, docs/benchmarks/retrieval.md).
    most bigint := 12 * sqrt(greatest(vectors, 10000));
    plan json;
    found bigint[];
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || inside INTO plan
        USING owner, of_generation, of_collection, groups, wanted;
    -- The planner's guess may be off by a factor; what it calls hopeless costs nothing more.
    IF (plan -> 0 -> 'Plan' ->> 'Plan Rows')::float8 > 2 * most THEN
        RETURN NULL;
    END IF;
    EXECUTE 'SELECT ARRAY(' || inside || ' LIMIT $6)' INTO found
        USING owner, of_generation, of_collection, groups, wanted, most + 1;
    RETURN CASE WHEN cardinality(found) <= most THEN found END;
END
$$;
REVOKE ALL ON FUNCTION narrowed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION narrowed TO retrieve_request;
