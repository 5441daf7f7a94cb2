"""What does the proxy cost, and how much can it do, beside PgBouncer and HAProxy?

    python -m benchmarks [--quick] [--cases a,b] [--contestants pgweir,pgbouncer,haproxy]
                         [--seconds S] [--rounds R] [--json FILE] [--markdown FILE]

Seven nouns. A `Case` is one question, such as "simple queries, 64 clients, against the stub". Its
`Rig` says what stands around the proxy: which server, how clients log in, with TLS or without. The
`Contestants` are the proxies that answer it, all running at the same time on the same rig and
taking turns. A `Load` is what drives them: pgbench, or the loader in load.c. Each turn gives a
`Sample`; the samples of all rounds give medians, and medians of ratios. A `Target` is a ratio to
reach.

Read README.md beside this file for what the numbers mean.
"""
