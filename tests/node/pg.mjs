// npm `pg` (node-postgres).

import pg from "pg";
import { assert, report, together, url } from "./report.mjs";

const pool = new pg.Pool({ connectionString: url, max: 6 });

async function withClient(use) {
  const client = await pool.connect();
  try {
    return await use(client);
  } finally {
    client.release();
  }
}

await report(
  {
    async "simple query"() {
      const { rows } = await pool.query("SELECT 1 AS one, 'two' AS two, NULL AS nothing");
      assert.deepEqual(rows, [{ one: 1, two: "two", nothing: null }]);
    },
    async "several statements"() {
      const results = await pool.query("SELECT 1 AS a; SELECT 2 AS b");
      assert.deepEqual(results.map((each) => each.rows), [[{ a: 1 }], [{ b: 2 }]]);
    },
    async "empty query"() {
      const { rows } = await pool.query("");
      assert.deepEqual(rows, []);
    },
    async "parameterised"() {
      await together(40, async (n) => {
        const { rows } = await pool.query("SELECT $1::int AS n, $2::text AS t", [n, `t${n}`]);
        assert.deepEqual(rows, [{ n, t: `t${n}` }]);
      });
    },
    async "parameters of many kinds"() {
      const when = new Date("2020-01-02T03:04:05.678Z");
      const { rows } = await pool.query(
        "SELECT $1::jsonb AS j, $2::int[] AS a, $3::bytea AS b, $4::timestamptz AS w, $5::bool AS t",
        [{ x: [1, "y"] }, [1, 2], Buffer.from([0, 255, 7]), when, true],
      );
      assert.deepEqual(rows[0].j, { x: [1, "y"] });
      assert.deepEqual(rows[0].a, [1, 2]);
      assert.deepEqual([...rows[0].b], [0, 255, 7]);
      assert.equal(rows[0].w.getTime(), when.getTime());
      assert.equal(rows[0].t, true);
    },
    async "binary results"() {
      const { rows } = await pool.query({ text: "SELECT $1::int AS n", values: [5], binary: true });
      assert.deepEqual(rows, [{ n: 5 }]);
    },
    async "prepared"() {
      await together(60, async (n) => {
        const which = n % 5;
        const { rows } = await pool.query({
          name: `prepared ${which}`,
          text: `SELECT ${which} AS which, $1::int AS n`,
          values: [n],
        });
        assert.deepEqual(rows, [{ which, n }]);
      });
    },
    async "one name, another text in another client"() {
      await together(6, (n) =>
        withClient(async (client) => {
          for (let turn = 0; turn < 5; turn++) {
            const { rows } = await client.query({
              name: `mine ${process.pid} ${n}`,
              text: `SELECT 'client ${n}' AS whose`,
            });
            assert.equal(rows[0].whose, `client ${n}`);
          }
        }),
      );
    },
    async "transactions"() {
      await pool.query("CREATE TABLE IF NOT EXISTS node_pg (id int, v text)");
      await pool.query("TRUNCATE node_pg");
      await together(12, (n) =>
        withClient(async (client) => {
          await client.query("BEGIN");
          await client.query("INSERT INTO node_pg VALUES ($1, 'in')", [n]);
          const seen = await client.query("SELECT count(*)::int AS c FROM node_pg WHERE id = $1", [n]);
          assert.equal(seen.rows[0].c, 1);
          await client.query(n % 2 ? "COMMIT" : "ROLLBACK");
        }),
      );
      const { rows } = await pool.query("SELECT id FROM node_pg ORDER BY id");
      assert.deepEqual(rows.map((each) => each.id), [1, 3, 5, 7, 9, 11]);
      await pool.query("DROP TABLE node_pg");
    },
    async "isolation level"() {
      await withClient(async (client) => {
        await client.query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY");
        const { rows } = await client.query("SHOW transaction_isolation");
        assert.equal(rows[0].transaction_isolation, "serializable");
        await client.query("COMMIT");
      });
    },
    async "errors"() {
      await together(12, async (n) => {
        await assert.rejects(pool.query("SELECT 1/$1::int", [0]), { code: "22012" });
        await assert.rejects(pool.query("SELEKT"), { code: "42601" });
        await assert.rejects(pool.query({ name: "bad", text: "SELECT nope" }), { code: "42703" });
        assert.equal((await pool.query("SELECT $1::int AS n", [n])).rows[0].n, n);
      });
    },
    async "error in a transaction"() {
      await withClient(async (client) => {
        await client.query("BEGIN");
        await assert.rejects(client.query("SELECT 1/0"), { code: "22012" });
        await assert.rejects(client.query("SELECT 1"), { code: "25P02" });
        await client.query("ROLLBACK");
        assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
      });
    },
    async "large result"() {
      const { rows } = await pool.query(
        "SELECT i, repeat('r', 1000) AS r FROM generate_series(1, 20000) i",
      );
      assert.equal(rows.length, 20000);
      assert.ok(rows.every((row, at) => row.i === at + 1 && row.r.length === 1000));
    },
    async "large parameter"() {
      const { rows } = await pool.query("SELECT length($1::text) AS n", ["p".repeat(5_000_000)]);
      assert.equal(rows[0].n, 5_000_000);
    },
    async "queued queries on one client"() {
      await withClient(async (client) => {
        const all = await Promise.all(
          Array.from({ length: 50 }, (_, n) => client.query("SELECT $1::int AS n", [n])),
        );
        assert.deepEqual(all.map((each) => each.rows[0].n), [...Array(50).keys()]);
      });
    },
    async "notices"() {
      await withClient(async (client) => {
        const heard = [];
        client.on("notice", (notice) => heard.push(notice.message));
        await client.query("DO $$ BEGIN RAISE NOTICE 'for you'; END $$");
        assert.deepEqual(heard, ["for you"]);
        client.removeAllListeners("notice");
      });
    },
    async "many connections one after another"() {
      for (let n = 0; n < 20; n++) {
        const client = new pg.Client({ connectionString: url, statement_timeout: 1000 + n });
        await client.connect();
        const { rows } = await client.query("SHOW statement_timeout");
        assert.equal(rows[0].statement_timeout, n ? `${1000 + n}ms` : "1s");
        await client.end();
      }
    },
  },
  () => pool.end(),
);
