/* A disk that fails: preloaded into the program under test, between it and the system's files.
 *
 * It minds the files whose path begins with DISK_UNDER, and does nothing until the file DISK_TRIGGER is there. Then, as
 * DISK_MODE says:
 *
 *   fail   each sync of such a file fails with EIO, and a byte is appended to the trigger, so that a test can count them.
 *   cut    the power goes: of what was written since a file's last fsync or fdatasync, all (or, with DISK_KEEP=1, each write,
 *          or the end of one, by chance, so that files are torn) is undone, and the process dies at once. sync_file_range counts for
 *          nothing, since it covers neither a file's metadata nor the drive's cache. A byte is appended to the trigger for
 *          each write that was undone.
 *
 * Not modelled: names. What was renamed, made or removed lasts at once, and a file that was made has no bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* A write that may yet be lost: what it covered, and what it brought. */
struct change {
    struct change *older;
    char *path;
    off_t at, size_before;
    size_t length, length_before;
    char *before, *after;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *newest;

static int minded(int file, char *path) {
    const char *under = getenv("DISK_UNDER");
    char link[64];
    struct stat found;
    if (!under || fstat(file, &found) || !S_ISREG(found.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, under, strlen(under)) == 0;
}

static int mode_is(const char *mode) {
    const char *set = getenv("DISK_MODE");
    return set && strcmp(set, mode) == 0;
}

static int triggered(void) {
    const char *trigger = getenv("DISK_TRIGGER");
    return trigger && access(trigger, F_OK) == 0;
}

static void count(void) {
    REAL(write);
    int trigger = open(getenv("DISK_TRIGGER"), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (trigger < 0 || real(trigger, ".", 1) != 1) abort();
    close(trigger);
}

static void undo(const struct change *change) {
    REAL(pwrite);
    int file = open(change->path, O_RDWR | O_CLOEXEC);
    if (file < 0) return; /* It was removed. */
    if (real(file, change->before, change->length_before, change->at) < 0 || ftruncate(file, change->size_before)) abort();
    close(file);
}

static void redo(const struct change *change) {
    REAL(pwrite);
    int file = open(change->path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    size_t kept = rand() & 1 ? change->length : (size_t)rand() % (change->length + 1);
    if (change->after && real(file, change->after, kept, change->at) < 0) abort();
    close(file);
}

/* Dies as a machine without power does. Called with the lock held, so that nobody writes meanwhile. */
static void cut(void) {
    const char *keep = getenv("DISK_KEEP");
    struct change *oldest = NULL;
    setenv("DISK_UNDER", "\n", 1); /* What follows is not minded. */
    while (newest) {
        struct change *change = newest;
        undo(change);
        count();
        newest = change->older;
        change->older = oldest;
        oldest = change;
    }
    srand((unsigned)getpid());
    for (; keep && oldest; oldest = oldest->older)
        if (rand() & 1) redo(oldest);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* The power goes at a sync, or now and then at a write. */
static void power(int always) {
    if (triggered() && (always || rand() % 4 == 0)) cut();
}

/* Remembers what a write is about to cover; `after` is null for a change of length. Called with the lock held. */
static void remember(int file, const char *path, off_t at, size_t length, const char *after) {
    struct stat found;
    struct change *change = calloc(1, sizeof *change);
    if (!change || fstat(file, &found)) abort();
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    change->path = strdup(path);
    change->at = at;
    change->size_before = found.st_size;
    change->length = length;
    change->before = malloc(length + 1);
    ssize_t had = reader < 0 ? 0 : pread(reader, change->before, length, at);
    change->length_before = had < 0 ? 0 : (size_t)had;
    if (reader >= 0) close(reader);
    if (after) {
        change->after = malloc(length + 1);
        memcpy(change->after, after, length);
    }
    change->older = newest;
    newest = change;
}

static void forget(const char *path) {
    for (struct change **link = &newest; *link;) {
        struct change *change = *link;
        if (strcmp(change->path, path)) {
            link = &change->older;
            continue;
        }
        *link = change->older;
        free(change->path), free(change->before), free(change->after), free(change);
    }
}

static off_t place(int file) {
    struct stat found;
    if (fcntl(file, F_GETFL) & O_APPEND) return fstat(file, &found) ? 0 : found.st_size;
    return lseek(file, 0, SEEK_CUR);
}

/* A write, whatever its name: `act` carries it out. */
#define WRITING(file, where, data, count, act)                     \
    char path[PATH_MAX];                                           \
    if (!mode_is("cut") || !minded(file, path)) return act;        \
    pthread_mutex_lock(&lock);                                     \
    power(0);                                                      \
    remember(file, path, where, count, data);                      \
    __typeof__(act) done = act;                                    \
    pthread_mutex_unlock(&lock);                                   \
    return done

ssize_t write(int file, const void *data, size_t count) {
    REAL(write);
    WRITING(file, place(file), data, count, real(file, data, count));
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t at) {
    REAL(pwrite64);
    WRITING(file, at, data, count, real(file, data, count, at));
}

ssize_t pwrite(int file, const void *data, size_t count, off_t at) {
    REAL(pwrite);
    WRITING(file, at, data, count, real(file, data, count, at));
}

/* One part at a time: a writer must be ready for that. */
ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    char minds[PATH_MAX];
    if (!mode_is("cut") || !minded(file, minds)) return real(file, parts, count);
    for (int part = 0; part < count; part++)
        if (parts[part].iov_len) return write(file, parts[part].iov_base, parts[part].iov_len);
    return 0;
}

static off_t smaller(int file, off_t length) {
    struct stat found;
    return fstat(file, &found) || found.st_size < length ? length : found.st_size;
}

int ftruncate64(int file, off64_t length) {
    REAL(ftruncate64);
    WRITING(file, length, NULL, (size_t)(smaller(file, length) - length), real(file, length));
}

int ftruncate(int file, off_t length) {
    REAL(ftruncate);
    WRITING(file, length, NULL, (size_t)(smaller(file, length) - length), real(file, length));
}

static int fails(int file, char *path) {
    if (!mode_is("fail") || !minded(file, path) || !triggered()) return 0;
    count();
    errno = EIO;
    return 1;
}

#define SYNCING(file, act)                                         \
    char path[PATH_MAX];                                           \
    if (fails(file, path)) return -1;                              \
    if (!mode_is("cut") || !minded(file, path)) return act;        \
    pthread_mutex_lock(&lock);                                     \
    power(1);                                                      \
    int done = act;                                                \
    if (done == 0) forget(path);                                   \
    pthread_mutex_unlock(&lock);                                   \
    return done

int fsync(int file) {
    REAL(fsync);
    SYNCING(file, real(file));
}

int fdatasync(int file) {
    REAL(fdatasync);
    SYNCING(file, real(file));
}

int sync_file_range(int file, off64_t from, off64_t bytes, unsigned flags) {
    REAL(sync_file_range);
    char path[PATH_MAX];
    return fails(file, path) ? -1 : real(file, from, bytes, flags);
}
