/* A disk whose every sync takes longer: LD_PRELOAD this before a program that uses SQLite.
 *
 * SQLite on Linux calls fdatasync; fsync is here for the folder. BENCH_SYNC_DELAY_US microseconds are added to each call;
 * bench_sync_count() tells how many there were, so that a benchmark can see that the delay was really in the way.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static atomic_long count;

long bench_sync_count(void) { return atomic_load(&count); }

static void delay(void) {
    const char *text = getenv("BENCH_SYNC_DELAY_US");
    long us = text ? atol(text) : 0;
    atomic_fetch_add(&count, 1);
    if (us > 0) {
        struct timespec left = {us / 1000000, us % 1000000 * 1000};
        nanosleep(&left, NULL);
    }
}

static int forward(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    delay();
    return real(fd);
}

int fsync(int fd) { return forward("fsync", fd); }
int fdatasync(int fd) { return forward("fdatasync", fd); }
