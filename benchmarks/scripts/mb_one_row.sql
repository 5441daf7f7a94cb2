SELECT bench_big_row;
