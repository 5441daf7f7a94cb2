SELECT bench_mb;
