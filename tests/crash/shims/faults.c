/* A disk that fails, and one that forgets: LD_PRELOAD this under a process and steer it by ctypes.
 *
 * Only files whose name contains "kitaru.db" count. A call is a write (write, pwrite), or a sync (fsync, fdatasync).
 *
 *   crash_fail(kinds, k, sticky)   from now on the k-th call of these kinds (1 write, 2 sync, 3 both) fails with EIO, and
 *                                  with `sticky` every later one too; k = 0 disarms.
 *   crash_seen()                   calls of these kinds since crash_fail
 *   crash_failed()                 how many were failed
 *   crash_syncs()                  syncs so far
 *   crash_unsynced()               writes to the WAL that no sync has followed
 *   crash_remember(folder)         at every sync copy the file, as it is, to `folder`: what a power cut would leave.
 *
 * The copy is read through the descriptor that is being synced: another one, closed, would drop SQLite's locks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2 };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static int armed_kinds, armed_sticky;
static long armed_at, seen, failed, syncs, unsynced;
static char memory[3072];

static int name_of(int fd, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, size - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    return strstr(name, "kitaru.db") != NULL;
}

void crash_fail(int kinds, long k, int sticky) {
    pthread_mutex_lock(&guard);
    armed_kinds = kinds, armed_at = k, armed_sticky = sticky, seen = 0, failed = 0;
    pthread_mutex_unlock(&guard);
}

long crash_seen(void) { return seen; }
long crash_failed(void) { return failed; }
long crash_syncs(void) { return syncs; }
long crash_unsynced(void) { return unsynced; }

void crash_remember(const char *folder) {
    pthread_mutex_lock(&guard);
    snprintf(memory, sizeof memory, "%s", folder);
    pthread_mutex_unlock(&guard);
}

/* Called with the guard held. */
static int fails(int kind) {
    if (!armed_at || !(armed_kinds & kind)) return 0;
    seen++;
    if (seen == armed_at || (armed_sticky && seen > armed_at)) {
        failed++;
        return 1;
    }
    return 0;
}

static void copy_out(int fd, const char *name) {
    ssize_t (*real_write)(int, const void *, size_t) = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    char path[4096], fresh[4200], buffer[65536];
    const char *base = strrchr(name, '/');
    snprintf(path, sizeof path, "%s%s", memory, base ? base : name);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int copy = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (copy < 0) abort();
    off_t at = 0;
    for (;;) {
        ssize_t length = pread(fd, buffer, sizeof buffer, at);
        if (length < 0) abort();
        if (length == 0) break;
        if (real_write(copy, buffer, (size_t)length) != length) abort();
        at += length;
    }
    close(copy);
    if (rename(fresh, path)) abort();
}

static int before_write(int fd) {
    char name[2048];
    if (!name_of(fd, name, sizeof name)) return 0;
    pthread_mutex_lock(&guard);
    int fail = fails(WRITE);
    if (!fail && strstr(name, "-wal")) unsynced++;
    pthread_mutex_unlock(&guard);
    return fail;
}

static int synced(const char *function, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
    char name[2048];
    if (!name_of(fd, name, sizeof name)) return real(fd);
    pthread_mutex_lock(&guard);
    int fail = fails(SYNC);
    pthread_mutex_unlock(&guard);
    if (fail) {
        errno = EIO;
        return -1;
    }
    int result = memory[0] ? 0 : real(fd);
    pthread_mutex_lock(&guard);
    syncs++;
    if (strstr(name, "-wal")) unsynced = 0;
    if (memory[0]) copy_out(fd, name);
    pthread_mutex_unlock(&guard);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (before_write(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd, data, size);
}

static ssize_t placed(const char *function, int fd, const void *data, size_t size, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, function);
    if (before_write(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return placed("pwrite64", fd, data, size, at); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return placed("pwrite64", fd, data, size, at); }
