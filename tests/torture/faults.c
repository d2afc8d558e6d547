/* A filesystem that fails at a chosen moment, preloaded into every process of a run (LD_PRELOAD).
 *
 * Every call that changes something below FAULTS_ROOT is counted, over all processes together, in the shared file
 * FAULTS_STATE. At the call whose number is FAULTS_AT that happens which FAULTS_KIND names:
 *
 *   kill            kill -9 of the calling process         group        of its whole process group
 *   head            of the head of the group: the command itself; its workers live on
 *   worker          of the calling process, at that number of the changes which others than the head make
 *   terminate       SIGTERM to the head of the group       pause        the group stops, until somebody goes on with it
 *   torn            half of a write, then kill of the group
 *   memory          the process gets no more address space from here on
 *   forward, back   the wall clock jumps by a day, for everybody, from here on
 *   <number>        the call fails with this errno; a minus before it: and so does every later one
 *
 * With FAULTS_LOG every change is written down, so that the harness can undo what a power cut would have: what was written
 * and not synced, what was named or renamed in a folder that was not synced. What a rename replaces is kept beside the log.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct state {
    atomic_long calls;   /* that changed something, so far */
    atomic_long fired;   /* number of the call at which it happened */
    atomic_long process; /* that made it */
    atomic_long jump;    /* seconds that are added to the wall clock */
    atomic_long others;  /* changes that were made by others than the head of the group */
};

static struct state *state;
static char root[PATH_MAX];
static size_t root_length;
static long at = -1, persistent_errno, single_errno;
static char kind[32];
static int log_descriptor = -1;
static char kept[PATH_MAX];
static const char *watched[65536]; /* path of each descriptor that may be written below the root */


/* By itself when it is loaded; again in a fork that has other variables. */
__attribute__((constructor)) void faults_begin(void) {
    const char *where = getenv("FAULTS_STATE"), *below = getenv("FAULTS_ROOT"), *number = getenv("FAULTS_AT");
    const char *what = getenv("FAULTS_KIND"), *log = getenv("FAULTS_LOG");
    if (!where || !below) return;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, where, O_RDWR | O_CLOEXEC, 0);
    if (descriptor < 0) return;
    void *shared = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (shared == MAP_FAILED) return;
    snprintf(root, sizeof root, "%s", below);
    root_length = strlen(root);
    if (number) at = atol(number);
    if (what) snprintf(kind, sizeof kind, "%s", what);
    long code = atol(kind);
    if (code < 0) persistent_errno = -code; else single_errno = code;
    if (log) {
        log_descriptor = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        snprintf(kept, sizeof kept, "%s.kept", log);
    }
    state = shared;
}

static int is_below(const char *path) {
    return state && path && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of a name in a folder, in a buffer of the caller's; NULL where it is not below the root. */
static const char *placed(int folder, const char *name, char *buffer) {
    if (!state || !name) return NULL;
    if (name[0] == '/') return is_below(name) ? strcpy(buffer, name) : NULL;
    char link[64], base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return NULL;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return NULL;
        base[length] = 0;
    }
    if (snprintf(buffer, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return NULL;
    return is_below(buffer) ? buffer : NULL;
}

static void note(char what, const char *path, const char *other) {
    if (log_descriptor < 0) return;
    char line[2 * PATH_MAX + 8];
    int length = snprintf(line, sizeof line, "%c\t%s\t%s\n", what, path, other ? other : "");
    if (length > 0 && length < (int)sizeof line) syscall(SYS_write, log_descriptor, line, (size_t)length);
}

static void die(void) {
    kill(0, SIGKILL);
    for (;;) pause();
}

/* Count a change; an errno with which the call is to fail, or 0. -1: it is to be torn. */
static int counted(void) {
    long number = atomic_fetch_add(&state->calls, 1) + 1;
    long of_others = getpid() == getpgid(0) ? 0 : atomic_fetch_add(&state->others, 1) + 1;
    if (!strcmp(kind, "worker")) number = of_others;
    if (at < 0 || number < at) return 0;
    if (number > at) return atomic_load(&state->fired) ? (int)persistent_errno : 0;
    atomic_store(&state->process, getpid());
    atomic_store(&state->fired, number);
    if (!strcmp(kind, "kill") || !strcmp(kind, "worker")) { kill(getpid(), SIGKILL); for (;;) pause(); }
    if (!strcmp(kind, "head")) kill(getpgid(0), SIGKILL);
    if (!strcmp(kind, "group")) die();
    if (!strcmp(kind, "terminate")) kill(getpgid(0), SIGTERM);
    if (!strcmp(kind, "pause")) kill(0, SIGSTOP);
    if (!strcmp(kind, "torn")) return -1;
    if (!strcmp(kind, "forward")) atomic_store(&state->jump, 86400);
    if (!strcmp(kind, "back")) atomic_store(&state->jump, -86400);
    if (!strcmp(kind, "memory")) { struct rlimit none = {1, 1}; setrlimit(RLIMIT_AS, &none); }
    return (int)(persistent_errno ? persistent_errno : single_errno);
}

#define FAIL_IF_TOLD()                                                     \
    do {                                                                   \
        int told = counted();                                              \
        if (told < 0) die();                                               \
        if (told) { errno = told; return -1; }                             \
    } while (0)

static const char *path_of(int descriptor) {
    return state && descriptor >= 0 && descriptor < 65536 ? watched[descriptor] : NULL;
}

/* ---- opening and closing ---- */

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = placed(folder, name, buffer);
    int changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC), is_new = 0;
    if (path && changes) {
        FAIL_IF_TOLD();
        is_new = flags & O_CREAT && access(path, F_OK);
        if (flags & (O_CREAT | O_TRUNC)) note('C', path, NULL);
    }
    int descriptor = (int)syscall(SYS_openat, folder, name, flags, mode);
    if (descriptor >= 0 && is_new) note('N', path, NULL);
    if (descriptor >= 0 && descriptor < 65536 && state)
        watched[descriptor] = path && (changes || flags & O_DIRECTORY) ? strdup(path) : NULL;
    if (descriptor >= 0 && descriptor < 65536 && path && !changes && !watched[descriptor]) {
        struct stat found;
        if (!fstat(descriptor, &found) && S_ISDIR(found.st_mode)) watched[descriptor] = strdup(path);
    }
    return descriptor;
}

#define MODE_OF(flags, mode)                                               \
    do {                                                                   \
        if ((flags) & (O_CREAT | O_TMPFILE)) {                             \
            va_list more;                                                  \
            va_start(more, flags);                                         \
            mode = (mode_t)va_arg(more, int);                              \
            va_end(more);                                                  \
        }                                                                  \
    } while (0)

int open(const char *name, int flags, ...) { mode_t mode = 0; MODE_OF(flags, mode); return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { mode_t mode = 0; MODE_OF(flags, mode); return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { mode_t mode = 0; MODE_OF(flags, mode); return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { mode_t mode = 0; MODE_OF(flags, mode); return opened(folder, name, flags, mode); }

int close(int descriptor) {
    if (state && descriptor >= 0 && descriptor < 65536) watched[descriptor] = NULL;
    return (int)syscall(SYS_close, descriptor);
}

/* ---- writing and syncing ---- */

ssize_t write(int descriptor, const void *data, size_t size) {
    const char *path = path_of(descriptor);
    if (path) {
        int told = counted();
        note('W', path, NULL);
        if (told < 0) { syscall(SYS_write, descriptor, data, size / 2); die(); }
        if (told) { errno = told; return -1; }
    }
    return syscall(SYS_write, descriptor, data, size);
}

static ssize_t written_at(int descriptor, const void *data, size_t size, off_t offset) {
    const char *path = path_of(descriptor);
    if (path) {
        int told = counted();
        note('W', path, NULL);
        if (told < 0) { syscall(SYS_pwrite64, descriptor, data, size / 2, offset); die(); }
        if (told) { errno = told; return -1; }
    }
    return syscall(SYS_pwrite64, descriptor, data, size, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) { return written_at(descriptor, data, size, offset); }
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) { return written_at(descriptor, data, size, offset); }

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    const char *path = path_of(descriptor);
    if (path) { FAIL_IF_TOLD(); note('W', path, NULL); }
    return syscall(SYS_writev, descriptor, parts, count);
}

int ftruncate(int descriptor, off_t size) {
    const char *path = path_of(descriptor);
    if (path) { FAIL_IF_TOLD(); note('W', path, NULL); }
    return (int)syscall(SYS_ftruncate, descriptor, size);
}

static int synced(int descriptor, long number) {
    const char *path = path_of(descriptor);
    if (path) FAIL_IF_TOLD();
    int result = (int)syscall(number, descriptor);
    if (path && !result) note('S', path, NULL);
    return result;
}

int fsync(int descriptor) { return synced(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return synced(descriptor, SYS_fdatasync); }

ssize_t sendfile(int target, int source, off_t *offset, size_t size) {
    const char *path = path_of(target);
    if (path) { FAIL_IF_TOLD(); note('W', path, NULL); }
    return syscall(SYS_sendfile, target, source, offset, size);
}

ssize_t sendfile64(int target, int source, off64_t *offset, size_t size) { return sendfile(target, source, offset, size); }

ssize_t copy_file_range(int source, off64_t *from, int target, off64_t *to, size_t size, unsigned flags) {
    const char *path = path_of(target);
    if (path) { FAIL_IF_TOLD(); note('W', path, NULL); }
    return syscall(SYS_copy_file_range, source, from, target, to, size, flags);
}

/* ---- names ---- */

static int renamed(int folder, const char *name, int other, const char *new_name, unsigned flags) {
    static atomic_long number;
    char from[PATH_MAX], to[PATH_MAX], aside[PATH_MAX + 64] = "";
    const char *source = placed(folder, name, from), *target = placed(other, new_name, to);
    if (target) {
        FAIL_IF_TOLD();
        if (log_descriptor >= 0 && !access(target, F_OK)) {
            snprintf(aside, sizeof aside, "%s/%d-%ld", kept, getpid(), atomic_fetch_add(&number, 1));
            if (syscall(SYS_linkat, AT_FDCWD, target, AT_FDCWD, aside, 0)) aside[0] = 0;
        }
    }
    int result = (int)syscall(SYS_renameat2, folder, name, other, new_name, flags);
    if (target && !result) {
        char line[2 * PATH_MAX + 64];
        snprintf(line, sizeof line, "%s\t%s", target, aside);
        note('R', source ? source : "", line);
    }
    return result;
}

int rename(const char *name, const char *new_name) { return renamed(AT_FDCWD, name, AT_FDCWD, new_name, 0); }
int renameat(int folder, const char *name, int other, const char *new_name) { return renamed(folder, name, other, new_name, 0); }
int renameat2(int folder, const char *name, int other, const char *new_name, unsigned flags) { return renamed(folder, name, other, new_name, flags); }

static int linked(int folder, const char *name, int other, const char *new_name, int flags) {
    char to[PATH_MAX];
    const char *target = placed(other, new_name, to);
    if (target) FAIL_IF_TOLD();
    int result = (int)syscall(SYS_linkat, folder, name, other, new_name, flags);
    if (target && !result) note('N', target, NULL);
    return result;
}

int link(const char *name, const char *new_name) { return linked(AT_FDCWD, name, AT_FDCWD, new_name, 0); }
int linkat(int folder, const char *name, int other, const char *new_name, int flags) { return linked(folder, name, other, new_name, flags); }

static int unlinked(int folder, const char *name, int flags) {
    char where[PATH_MAX];
    const char *path = placed(folder, name, where);
    if (path) { FAIL_IF_TOLD(); note('U', path, NULL); }
    return (int)syscall(SYS_unlinkat, folder, name, flags);
}

int unlink(const char *name) { return unlinked(AT_FDCWD, name, 0); }
int unlinkat(int folder, const char *name, int flags) { return unlinked(folder, name, flags); }
int rmdir(const char *name) { return unlinked(AT_FDCWD, name, AT_REMOVEDIR); }

static int made(int folder, const char *name, mode_t mode) {
    char where[PATH_MAX];
    const char *path = placed(folder, name, where);
    if (path) FAIL_IF_TOLD();
    int result = (int)syscall(SYS_mkdirat, folder, name, mode);
    if (path && !result) note('N', path, NULL);
    return result;
}

int mkdir(const char *name, mode_t mode) { return made(AT_FDCWD, name, mode); }
int mkdirat(int folder, const char *name, mode_t mode) { return made(folder, name, mode); }

/* ---- the wall clock ---- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (!result && state && clock == CLOCK_REALTIME) now->tv_sec += atomic_load(&state->jump);
    return result;
}
