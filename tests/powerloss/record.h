/* What shim.c stands on: system calls of its own, what is watched, and the log. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the power-loss shim knows x86-64 only"
#endif

#define COOKIE 0x5175697053686d21ULL
#define PATH_LEN 4096
#define CHUNK (64 * 1024)

enum { OLD = 1, WRITE, RESIZE, SYNC, SYNCALL, CREATE, RENAME, UNLINK, RMDIR, LINK, CANCEL };
enum { FLAG_DATA = 1, FLAG_FAILED = 2 };

static char watched[PATH_LEN], graves[PATH_LEN + 16];
static size_t watched_len;
static int log_fd = -1;

/* Held from recording a change until it is done, so that the log has the order of the changes, and a sync that begins
 * sees each write either finished or not begun. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char record[CHUNK + 64];           /* under lock */

/* ---- system calls of our own ---- */

static long sys(long nr, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = COOKIE;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#define SYS1(nr, a) sys(nr, (long)(a), 0, 0, 0, 0)
#define SYS2(nr, a, b) sys(nr, (long)(a), (long)(b), 0, 0, 0)
#define SYS3(nr, a, b, c) sys(nr, (long)(a), (long)(b), (long)(c), 0, 0)
#define SYS4(nr, a, b, c, d) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0)
#define SYS5(nr, a, b, c, d, e) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static void die(const char *why) {
    SYS3(SYS_write, 2, "quip shim: ", 11);
    SYS3(SYS_write, 2, why, strlen(why));
    SYS3(SYS_write, 2, "\n", 1);
    SYS1(SYS_exit_group, 70);
    __builtin_unreachable();
}

/* ---- what is watched ---- */

static int is_inside(const char *path) {
    return !strncmp(path, watched, watched_len) && path[watched_len] == '/';
}

static int is_inside_or_self(const char *path) {
    return is_inside(path) || !strcmp(path, watched);
}

static size_t put_number(char *to, uint64_t n) {
    char digits[20];
    size_t len = 0;
    do digits[len++] = '0' + n % 10;
    while (n /= 10);
    for (size_t i = 0; i < len; i++) to[i] = digits[len - 1 - i];
    to[len] = 0;
    return len;
}

/* Where `fd` points, without links. */
static int path_of(int fd, char *path) {
    char proc[40] = "/proc/self/fd/";
    put_number(proc + 14, (uint64_t)fd);
    long len = SYS4(SYS_readlinkat, AT_FDCWD, proc, path, PATH_LEN - 1);
    if (len <= 0) return 0;
    path[len] = 0;
    return 1;
}

static int fd_is_watched(int fd, struct stat *st, char *path) {
    if (SYS2(SYS_fstat, fd, st) < 0) return 0;
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) return 0;
    return path_of(fd, path) && is_inside_or_self(path);
}

/* Canonical form of a name that need not exist: its folder resolved by the kernel, the last part as given. */
static int resolve(int dirfd, const char *name, char *out) {
    char folder[PATH_LEN];
    size_t len = strlen(name);
    while (len > 1 && name[len - 1] == '/') len--;
    size_t base = len;
    while (base > 0 && name[base - 1] != '/') base--;
    if (len >= PATH_LEN || !len) return 0;
    if (base) {
        memcpy(folder, name, base);
        folder[base] = 0;
    } else {
        strcpy(folder, ".");
    }
    long fd = SYS4(SYS_openat, dirfd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    int ok = path_of((int)fd, out);
    SYS1(SYS_close, fd);
    size_t at = strlen(out);
    if (!ok || at + 2 + len - base > PATH_LEN) return 0;
    if (at > 1) out[at++] = '/';
    memcpy(out + at, name + base, len - base);
    out[at + len - base] = 0;
    return 1;
}

static int resolve_inside(int dirfd, const char *name, char *out) {
    return resolve(dirfd, name, out) && is_inside(out);
}

static int stat_path(const char *path, struct stat *st) {
    return SYS4(SYS_newfstatat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- the log (under lock) ---- */

static void put(const void *bytes, size_t len) {
    if (SYS3(SYS_write, log_fd, bytes, len) != (long)len) die("cannot write its log");
}

static void note(uint32_t kind, const uint64_t *numbers, size_t count, const char *text, size_t text_len) {
    char buffer[2 * PATH_LEN + 128];
    uint32_t head[2] = {kind, (uint32_t)(count * 8 + text_len)};
    memcpy(buffer, head, 8);
    if (count) memcpy(buffer + 8, numbers, count * 8);
    if (text_len) memcpy(buffer + 8 + count * 8, text, text_len);
    put(buffer, 8 + head[1]);
}

static uint64_t log_position(void) {
    struct stat st;
    if (SYS2(SYS_fstat, log_fd, &st) < 0) die("cannot stat its log");
    return (uint64_t)st.st_size;
}

/* Records what lies in [from, to) of the file behind `path`, leaving out zeros and holes. */
static void note_old(const char *path, uint64_t from, uint64_t to) {
    if (from >= to) return;
    long fd = SYS4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) die("cannot read a file that is written");
    while (from < to) {
        long data = SYS3(SYS_lseek, fd, from, SEEK_DATA);
        if (data == -ENXIO || (data >= 0 && (uint64_t)data >= to)) break;
        if (data > 0) from = (uint64_t)data;
        uint64_t want = to - from < CHUNK ? to - from : CHUNK;
        char *bytes = record + 16;
        long got = SYS4(SYS_pread64, fd, bytes, want, from);
        if (got <= 0) break;
        long first = 0, last = got;
        while (first < last && !bytes[first]) first++;
        while (last > first && !bytes[last - 1]) last--;
        if (last > first) {
            uint64_t offset = from + (uint64_t)first;
            uint32_t head[2] = {OLD, (uint32_t)(8 + last - first)};
            char *start = bytes + first - 16;
            memcpy(start, head, 8);
            memcpy(start + 8, &offset, 8);
            put(start, 16 + (size_t)(last - first));
        }
        from += (uint64_t)got;
    }
    SYS1(SYS_close, fd);
}

static void note_resize(const char *path, const struct stat *st, uint64_t size) {
    note_old(path, size, (uint64_t)st->st_size);
    note(RESIZE, (uint64_t[]){st->st_ino, (uint64_t)st->st_size, size}, 3, 0, 0);
}

static void note_path(uint32_t kind, uint64_t number, const char *path) {
    note(kind, &number, 1, path, strlen(path));
}

static void bury(const char *path, uint64_t inode) {
    char grave[PATH_LEN + 64];
    size_t len = strlen(graves);
    memcpy(grave, graves, len);
    grave[len++] = '/';
    put_number(grave + len, inode);
    long result = SYS5(SYS_linkat, AT_FDCWD, path, AT_FDCWD, grave, 0);
    if (result < 0 && result != -EEXIST) die("cannot keep a deleted file; is <log>.graves on the same file system?");
}

static long cancel_if_failed(long result) {
    if (result < 0) note(CANCEL, 0, 0, 0, 0);
    return result;
}
