// npm `postgres` (Postgres.js): prepares what it can, and pipelines.

import postgres from "postgres";
import { assert, report, together, url } from "./report.mjs";

const sql = postgres(url, { max: 6, onnotice: (notice) => notices.push(notice.message) });
const unprepared = postgres(url, { max: 3, prepare: false, onnotice: () => {} });
const notices = [];

await report(
  {
    async "one row"() {
      assert.deepEqual([...(await sql`SELECT 1 AS one, ${"two"} AS two, NULL AS nothing`)], [
        { one: 1, two: "two", nothing: null },
      ]);
    },
    async "simple query"() {
      const results = await sql.unsafe("SELECT 1 AS a; SELECT 2 AS b").simple();
      assert.deepEqual(results.map((each) => [...each]), [[{ a: 1 }], [{ b: 2 }]]);
    },
    async "parameterised and prepared"() {
      await together(80, async (n) => {
        const rows = await sql`SELECT ${n}::int AS n, ${`t${n}`}::text AS t`;
        assert.deepEqual([...rows], [{ n, t: `t${n}` }]);
      });
    },
    async "many texts"() {
      await together(60, async (n) => {
        const rows = await sql.unsafe(`SELECT ${n} AS n, $1::int AS m`, [n], { prepare: true });
        assert.deepEqual([...rows], [{ n, m: n }]);
      });
    },
    async "unprepared"() {
      await together(40, async (n) => {
        const rows = await unprepared`SELECT ${n}::int AS n`;
        assert.deepEqual([...rows], [{ n }]);
      });
    },
    async "described"() {
      const described = await sql`SELECT ${1}::int AS n, ${"x"}::date AS d`.describe();
      assert.deepEqual(described.types, [23, 1082]);
      assert.deepEqual(described.columns.map((each) => each.name), ["n", "d"]);
    },
    async "transactions"() {
      await sql`CREATE TABLE IF NOT EXISTS node_postgres (id int, v text)`;
      await sql`TRUNCATE node_postgres`;
      await together(12, async (n) => {
        const work = sql.begin(async (tx) => {
          await tx`INSERT INTO node_postgres VALUES (${n}, 'in')`;
          const [{ c }] = await tx`SELECT count(*)::int AS c FROM node_postgres WHERE id = ${n}`;
          assert.equal(c, 1);
          if (n % 2 === 0) throw new Error("on purpose");
        });
        if (n % 2 === 0) await assert.rejects(work, /on purpose/);
        else await work;
      });
      const rows = await sql`SELECT id FROM node_postgres ORDER BY id`;
      assert.deepEqual(rows.map((each) => each.id), [1, 3, 5, 7, 9, 11]);
      await sql`DROP TABLE node_postgres`;
    },
    async "modes of a transaction"() {
      const level = await sql.begin("isolation level repeatable read read only", async (tx) => {
        const [row] = await tx`SHOW transaction_isolation`;
        return row.transaction_isolation;
      });
      assert.equal(level, "repeatable read");
    },
    async "savepoints"() {
      const value = await sql.begin(async (tx) => {
        await tx.savepoint((sp) => sp`SELECT 1/0`).catch((error) => assert.equal(error.code, "22012"));
        const [{ one }] = await tx`SELECT 1 AS one`;
        return one;
      });
      assert.equal(value, 1);
    },
    async "pipeline in a transaction"() {
      const results = await sql.begin((tx) =>
        Array.from({ length: 30 }, (_, n) => tx`SELECT ${n}::int AS n`),
      );
      assert.deepEqual(results.map((each) => each[0].n), [...Array(30).keys()]);
    },
    async "errors"() {
      await together(12, async (n) => {
        await assert.rejects(sql`SELECT 1/${0}::int`, { code: "22012" });
        await assert.rejects(sql`SELECT nope`, { code: "42703" });
        await assert.rejects(sql.unsafe("SELEKT"), { code: "42601" });
        const [row] = await sql`SELECT ${n}::int AS n`;
        assert.equal(row.n, n);
      });
    },
    async "cursor"() {
      const seen = [];
      await sql`SELECT generate_series(1, 100) AS n`.cursor(7, (rows) => {
        seen.push(...rows.map((each) => each.n));
      });
      assert.deepEqual(seen, Array.from({ length: 100 }, (_, n) => n + 1));
    },
    async "large result"() {
      const rows = await sql`SELECT i, repeat('r', 1000) AS r FROM generate_series(1, 20000) i`;
      assert.equal(rows.length, 20000);
      assert.ok(rows.every((row, at) => row.i === at + 1 && row.r.length === 1000));
    },
    async "large parameter"() {
      const [{ n }] = await sql`SELECT length(${"p".repeat(5_000_000)}::text) AS n`;
      assert.equal(n, 5_000_000);
    },
    async "copy in and out"() {
      const { pipeline } = await import("node:stream/promises");
      const { Readable } = await import("node:stream");
      await sql`CREATE TABLE IF NOT EXISTS node_copy (id int, v text)`;
      await sql`TRUNCATE node_copy`;
      const lines = Array.from({ length: 500 }, (_, n) => `${n}\tv${n}\n`);
      await pipeline(Readable.from(lines), await sql`COPY node_copy FROM STDIN`.writable());
      let text = "";
      for await (const piece of await sql`COPY node_copy TO STDOUT`.readable()) text += piece;
      assert.equal(text, lines.join(""));
      await sql`DROP TABLE node_copy`;
    },
    async "notices"() {
      notices.length = 0;
      await sql.unsafe("DO $$ BEGIN RAISE NOTICE 'for you'; END $$");
      assert.deepEqual(notices, ["for you"]);
    },
    async "cancel"() {
      const query = sql`SELECT pg_sleep(60)`;
      const over = assert.rejects(query, { code: "57014" });
      setTimeout(() => query.cancel(), 300);
      await over;
      assert.equal((await sql`SELECT 1 AS one`)[0].one, 1);
    },
    async "settings of a connection"() {
      await together(4, async (n) => {
        const own = postgres(url, { max: 1, connection: { statement_timeout: 5000 + n } });
        for (let turn = 0; turn < 5; turn++) {
          const [row] = await own`SHOW statement_timeout`;
          assert.equal(row.statement_timeout, n ? `${5000 + n}ms` : "5s");
        }
        await own.end();
      });
    },
  },
  async () => {
    await sql.end({ timeout: 5 });
    await unprepared.end({ timeout: 5 });
  },
);
