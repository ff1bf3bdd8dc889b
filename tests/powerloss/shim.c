/*
 * Records every change a process makes below one folder, so that a test can afterwards undo what no sync covered: a
 * power failure without a power failure. It also makes syncs and writes fail on request.
 *
 * Loaded by LD_PRELOAD. It does not wrap libc's functions: rustix (under fjall's rename of `current`) makes system
 * calls of its own that no wrapper sees. A seccomp filter raises SIGSYS for each call that changes files, and the
 * handler does the recording and then the call. The shim marks its own calls by COOKIE in the sixth argument, which
 * none of them uses, and the filter lets those pass.
 *
 *   QUIP_SHIM_DIR      folder to watch, canonical, no slash at the end. Unset: the shim does nothing.
 *   QUIP_SHIM_LOG      the log, appended to. `<log>.graves/` must exist on the same file system as the folder: a file
 *                      that is unlinked or replaced is hard-linked there first, named by its inode number.
 *   QUIP_SHIM_CONTROL  8 bytes, mapped: bits 0-47 argument, 48-55 a counter that changes with each fault, 56-63 the fault.
 *
 * The log is a row of records `u32 kind, u32 length, payload`, written before the call they describe, except SYNC and
 * SYNCALL, which are written after the call succeeded. A time is an offset in the log. Integers are u64, little endian.
 *
 *   OLD      offset, bytes                      part of what the next WRITE or RESIZE destroys; zeros are left out
 *   WRITE    inode, offset, length, old size
 *   RESIZE   inode, old size, new size
 *   SYNC     inode, begin, flags, path          begin: log length when the sync began; flags: DATA, FAILED. Also after a
 *                                               write to a file that was opened with O_DSYNC
 *   SYNCALL  begin
 *   CREATE   is folder, path
 *   RENAME   inode, replaced inode or 0, is folder, from, NUL, to
 *   UNLINK   inode, path
 *   RMDIR    path
 *   LINK     inode, path
 *   CANCEL                                      the record before it describes a call that failed
 *
 * Not seen, therefore refused to the whole process: writable shared mappings of files (ENODEV), io_uring, openat2
 * and pwritev2 (ENOSYS), copy_file_range (EXDEV), sendfile and splice (EINVAL). Callers fall back to plain calls. A thread that
 * blocks SIGSYS dies at its first recorded call. x86-64 Linux only.
 */
#define _GNU_SOURCE
#include "record.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

/* Out of the way of programs that choose numbers, as shells do. */
#define LOG_FD 700

/* ---- faults ---- */

enum { FAULT_NONE, FAULT_EIO, FAULT_STUCK, FAULT_ENOSPC, FAULT_LYING };

static volatile uint64_t *control;
static uint64_t budget_word, budget_used; /* under lock */

static uint64_t control_word(void) { return control ? *control : 0; }
static unsigned fault(void) { return (unsigned)(control_word() >> 56); }

/* Bytes that may still be written (under lock). */
static uint64_t room(void) {
    uint64_t word = control_word();
    if (word >> 56 != FAULT_ENOSPC) return UINT64_MAX;
    if (word != budget_word) budget_word = word, budget_used = 0;
    uint64_t limit = word & 0xffffffffffffULL;
    return limit > budget_used ? limit - budget_used : 0;
}

/* ---- calls ---- */

static uint64_t total(const struct iovec *parts, long count) {
    uint64_t sum = 0;
    for (long i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

static long do_sync(long nr, int fd) {
    struct stat st;
    char path[PATH_LEN];
    if (!fd_is_watched(fd, &st, path)) return SYS1(nr, fd);
    while (fault() == FAULT_STUCK) {
        struct timespec pause = {0, 20 * 1000 * 1000};
        SYS2(SYS_nanosleep, &pause, 0);
    }
    if (fault() == FAULT_LYING) return 0;
    pthread_mutex_lock(&lock);
    uint64_t begin = log_position();
    pthread_mutex_unlock(&lock);
    long result = fault() == FAULT_EIO ? -EIO : SYS1(nr, fd);
    uint64_t flags = (nr == SYS_fdatasync ? FLAG_DATA : 0) | (result < 0 ? FLAG_FAILED : 0);
    pthread_mutex_lock(&lock);
    note(SYNC, (uint64_t[]){st.st_ino, begin, flags}, 3, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return result;
}

/* All forms of write, to a watched file. `at` is the offset, or -1 for the file's own position. */
static long do_write(int fd, const struct iovec *parts, long count, int64_t at) {
    struct stat st;
    char proc[40] = "/proc/self/fd/";
    struct iovec one;
    long flags = SYS3(SYS_fcntl, fd, F_GETFL, 0);
    pthread_mutex_lock(&lock);
    uint64_t len = total(parts, count), left = room();
    long result = -ENOSPC;
    if (flags & O_DIRECT) left &= ~511ULL;
    if (len && !left) goto out;
    if (len > left) {
        while (!parts->iov_len) parts++;
        one = *parts;
        if (one.iov_len > left) one.iov_len = left;
        parts = &one, count = 1, len = one.iov_len;
    }
    SYS2(SYS_fstat, fd, &st);
    int append = flags & O_APPEND;
    int64_t offset = append ? st.st_size : at >= 0 ? at : SYS3(SYS_lseek, fd, 0, SEEK_CUR);
    uint64_t end = (uint64_t)offset + len, size = (uint64_t)st.st_size;
    put_number(proc + 14, (uint64_t)fd);
    note_old(proc, (uint64_t)offset, end < size ? end : size);
    note(WRITE, (uint64_t[]){st.st_ino, (uint64_t)offset, len, size}, 4, 0, 0);
    result = at < 0 ? SYS3(SYS_writev, fd, parts, count) : SYS5(SYS_pwritev, fd, parts, count, at, 0);
    if (result > 0) budget_used += (uint64_t)result;
out:
    pthread_mutex_unlock(&lock);
    if (result <= 0 || !(flags & O_DSYNC)) return result;
    long synced = do_sync(SYS_fdatasync, fd);
    return synced < 0 ? synced : result;
}

static long do_truncate(long nr, int fd, const char *name, uint64_t size) {
    struct stat st;
    char path[PATH_LEN];
    int mine = fd >= 0 ? fd_is_watched(fd, &st, path) : resolve_inside(AT_FDCWD, name, path) && stat_path(path, &st);
    long target = fd >= 0 ? fd : (long)name;
    if (!mine) return SYS2(nr, target, size);
    char proc[40] = "/proc/self/fd/";
    if (fd >= 0) put_number(proc + 14, (uint64_t)fd);
    pthread_mutex_lock(&lock);
    if (fd >= 0) SYS2(SYS_fstat, fd, &st);
    else stat_path(path, &st);
    note_resize(fd >= 0 ? proc : path, &st, size);
    long result = cancel_if_failed(SYS2(nr, target, size));
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_fallocate(int fd, int mode, int64_t offset, int64_t len) {
    struct stat st;
    char path[PATH_LEN], proc[40] = "/proc/self/fd/";
    if (!fd_is_watched(fd, &st, path)) return SYS4(SYS_fallocate, fd, mode, offset, len);
    if (mode & ~FALLOC_FL_KEEP_SIZE) return -EOPNOTSUPP;
    put_number(proc + 14, (uint64_t)fd);
    pthread_mutex_lock(&lock);
    long result = -ENOSPC;
    if ((uint64_t)len <= room()) {
        SYS2(SYS_fstat, fd, &st);
        if (!mode && offset + len > st.st_size) {
            note_resize(proc, &st, (uint64_t)(offset + len));
            result = cancel_if_failed(SYS4(SYS_fallocate, fd, mode, offset, len));
        } else {
            result = SYS4(SYS_fallocate, fd, mode, offset, len);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_sync_all(long nr, int fd) {
    if (fault() == FAULT_EIO && nr == SYS_syncfs) return -EIO;
    if (fault() == FAULT_LYING) return 0;
    pthread_mutex_lock(&lock);
    uint64_t begin = log_position();
    pthread_mutex_unlock(&lock);
    long result = SYS1(nr, fd);
    if (result < 0) return result;
    pthread_mutex_lock(&lock);
    note(SYNCALL, &begin, 1, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_open(int dirfd, const char *name, int flags, int mode) {
    struct stat st;
    char path[PATH_LEN];
    if ((flags & O_TMPFILE) == O_TMPFILE || !resolve_inside(dirfd, name, path))
        return SYS4(SYS_openat, dirfd, name, flags, mode);
    pthread_mutex_lock(&lock);
    int noted = 1;
    long result = -ENOSPC;
    if (!stat_path(path, &st)) {
        if ((flags & O_CREAT) && !room()) goto out;
        if (flags & O_CREAT) note_path(CREATE, 0, path);
        else noted = 0;
    } else if ((flags & O_TRUNC) && !(flags & O_EXCL) && S_ISREG(st.st_mode)) {
        note_resize(path, &st, 0);
    } else {
        noted = 0;
    }
    result = SYS4(SYS_openat, dirfd, name, flags, mode);
    if (noted) cancel_if_failed(result);
out:
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_mkdir(int dirfd, const char *name, int mode) {
    char path[PATH_LEN];
    if (!resolve_inside(dirfd, name, path)) return SYS3(SYS_mkdirat, dirfd, name, mode);
    pthread_mutex_lock(&lock);
    long result = -ENOSPC;
    if (room()) {
        note_path(CREATE, 1, path);
        result = cancel_if_failed(SYS3(SYS_mkdirat, dirfd, name, mode));
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_unlink(int dirfd, const char *name, int flags) {
    struct stat st;
    char path[PATH_LEN];
    if (!resolve_inside(dirfd, name, path)) return SYS3(SYS_unlinkat, dirfd, name, flags);
    pthread_mutex_lock(&lock);
    if (flags & AT_REMOVEDIR) {
        note(RMDIR, 0, 0, path, strlen(path));
    } else if (stat_path(path, &st) && !S_ISDIR(st.st_mode)) {
        bury(path, st.st_ino);
        note_path(UNLINK, st.st_ino, path);
    } else {
        long result = SYS3(SYS_unlinkat, dirfd, name, flags);
        pthread_mutex_unlock(&lock);
        return result;
    }
    long result = cancel_if_failed(SYS3(SYS_unlinkat, dirfd, name, flags));
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    struct stat st, old;
    char both[2 * PATH_LEN], target[PATH_LEN];
    int from_in = resolve_inside(from_dir, from, both), to_in = resolve_inside(to_dir, to, target);
    if (!from_in && !to_in) return SYS5(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (from_in != to_in) return -EXDEV;
    if (flags & ~RENAME_NOREPLACE) return -EINVAL;
    pthread_mutex_lock(&lock);
    uint64_t replaced = 0;
    if (stat_path(target, &old) && !S_ISDIR(old.st_mode) && !(flags & RENAME_NOREPLACE)) {
        replaced = old.st_ino;
        bury(target, replaced);
    }
    long result = -ENOENT;
    if (stat_path(both, &st)) {
        size_t len = strlen(both) + 1, more = strlen(target);
        memcpy(both + len, target, more);
        note(RENAME, (uint64_t[]){st.st_ino, replaced, S_ISDIR(st.st_mode)}, 3, both, len + more);
        result = cancel_if_failed(SYS5(SYS_renameat2, from_dir, from, to_dir, to, flags));
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static long do_link(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    struct stat st;
    char path[PATH_LEN];
    if (!resolve_inside(to_dir, to, path)) return SYS5(SYS_linkat, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    long result = SYS4(SYS_newfstatat, from_dir, from, &st, AT_SYMLINK_NOFOLLOW | (flags & AT_EMPTY_PATH));
    if (result == 0) {
        note_path(LINK, st.st_ino, path);
        result = cancel_if_failed(SYS5(SYS_linkat, from_dir, from, to_dir, to, flags));
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static long dispatch(long nr, long a, long b, long c, long d, long e) {
    struct stat st;
    char path[PATH_LEN];
    struct iovec one = {(void *)b, (size_t)c};
    switch (nr) {
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_pwritev:
        if (!fd_is_watched((int)a, &st, path)) return sys(nr, a, b, c, d, e);
        int positioned = nr == SYS_pwrite64 || nr == SYS_pwritev;
        if (positioned && d < 0) return -EINVAL;
        if (nr == SYS_write || nr == SYS_pwrite64) b = (long)&one, c = 1;
        return do_write((int)a, (void *)b, c, positioned ? d : -1);
    case SYS_ftruncate: return do_truncate(nr, (int)a, 0, (uint64_t)b);
    case SYS_truncate: return do_truncate(nr, -1, (char *)a, (uint64_t)b);
    case SYS_fallocate: return do_fallocate((int)a, (int)b, c, d);
    case SYS_fsync:
    case SYS_fdatasync: return do_sync(nr, (int)a);
    case SYS_sync:
    case SYS_syncfs: return do_sync_all(nr, (int)a);
    case SYS_open: return do_open(AT_FDCWD, (char *)a, (int)b, (int)c);
    case SYS_creat: return do_open(AT_FDCWD, (char *)a, O_CREAT | O_WRONLY | O_TRUNC, (int)b);
    case SYS_openat: return do_open((int)a, (char *)b, (int)c, (int)d);
    case SYS_mkdir: return do_mkdir(AT_FDCWD, (char *)a, (int)b);
    case SYS_mkdirat: return do_mkdir((int)a, (char *)b, (int)c);
    case SYS_unlink: return do_unlink(AT_FDCWD, (char *)a, 0);
    case SYS_unlinkat: return do_unlink((int)a, (char *)b, (int)c);
    case SYS_rmdir: return do_unlink(AT_FDCWD, (char *)a, AT_REMOVEDIR);
    case SYS_rename: return do_rename(AT_FDCWD, (char *)a, AT_FDCWD, (char *)b, 0);
    case SYS_renameat: return do_rename((int)a, (char *)b, (int)c, (char *)d, 0);
    case SYS_renameat2: return do_rename((int)a, (char *)b, (int)c, (char *)d, (unsigned)e);
    case SYS_link: return do_link(AT_FDCWD, (char *)a, AT_FDCWD, (char *)b, 0);
    case SYS_linkat: return do_link((int)a, (char *)b, (int)c, (char *)d, (int)e);
    default: return -ENOSYS;
    }
}

static void on_trap(int signal, siginfo_t *info, void *context) {
    (void)signal;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    r[REG_RAX] = dispatch(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8]);
}

/* ---- the filter ---- */

#define ARG_LOW(n) (offsetof(struct seccomp_data, args[n]))
#define ARG_HIGH(n) (offsetof(struct seccomp_data, args[n]) + 4)
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define REFUSE(nr, error) UNLESS(nr, 1), RETURN(SECCOMP_RET_ERRNO | (error))
#define TRAP(nr) UNLESS(nr, 1), RETURN(SECCOMP_RET_TRAP)
/* An open that neither creates nor truncates changes nothing: it is let through. */
#define TRAP_OPEN(nr, arg)                                                                   \
    UNLESS(nr, 4), LOAD(ARG_LOW(arg)),                                                       \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | O_TRUNC, 0, 1), RETURN(SECCOMP_RET_TRAP), \
        RETURN(SECCOMP_RET_ALLOW)

static struct sock_filter filter[] = {
    LOAD(offsetof(struct seccomp_data, arch)), UNLESS(AUDIT_ARCH_X86_64, 4),
    LOAD(ARG_LOW(5)), UNLESS((uint32_t)COOKIE, 3), LOAD(ARG_HIGH(5)), UNLESS((uint32_t)(COOKIE >> 32), 1),
    RETURN(SECCOMP_RET_ALLOW),
    LOAD(offsetof(struct seccomp_data, nr)),
    TRAP(SYS_write), TRAP(SYS_pwrite64), TRAP(SYS_writev), TRAP(SYS_pwritev),
    TRAP(SYS_ftruncate), TRAP(SYS_truncate), TRAP(SYS_fallocate),
    TRAP(SYS_fsync), TRAP(SYS_fdatasync), TRAP(SYS_sync), TRAP(SYS_syncfs),
    TRAP(SYS_creat), TRAP(SYS_mkdir), TRAP(SYS_mkdirat), TRAP(SYS_unlink), TRAP(SYS_unlinkat), TRAP(SYS_rmdir),
    TRAP(SYS_rename), TRAP(SYS_renameat), TRAP(SYS_renameat2), TRAP(SYS_link), TRAP(SYS_linkat),
    REFUSE(SYS_copy_file_range, EXDEV), REFUSE(SYS_sendfile, EINVAL), REFUSE(SYS_splice, EINVAL),
    REFUSE(SYS_io_uring_setup, ENOSYS), REFUSE(SYS_openat2, ENOSYS),
    REFUSE(SYS_pwritev2, ENOSYS),
    TRAP_OPEN(SYS_open, 1), TRAP_OPEN(SYS_openat, 2),
    UNLESS(SYS_mmap, 7),
    LOAD(ARG_LOW(2)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 5),
    LOAD(ARG_LOW(3)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 2), RETURN(SECCOMP_RET_ERRNO | ENODEV),
    RETURN(SECCOMP_RET_ALLOW),
    RETURN(SECCOMP_RET_ALLOW),
};

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("QUIP_SHIM_DIR"), *log = getenv("QUIP_SHIM_LOG"), *file = getenv("QUIP_SHIM_CONTROL");
    if (!dir) return;
    if (!log || !file || strlen(dir) >= PATH_LEN || strlen(log) >= PATH_LEN) die("QUIP_SHIM_LOG or _CONTROL is missing");
    strcpy(watched, dir);
    watched_len = strlen(dir);
    snprintf(graves, sizeof graves, "%s.graves", log);

    /* With the cookie: a program started by a watched one has its filter, but not yet a handler. */
    int opened = (int)SYS4(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_fd = fcntl(opened, F_DUPFD_CLOEXEC, LOG_FD);
    close(opened);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (log_fd < 0 || fd < 0) die("cannot open its log or control file");
    control = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) die("cannot map its control file");
    close(fd);

    /* Every other signal waits for the handler: a signal handler that writes (tokio's does) would trap inside it. */
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGSYS);
    sigprocmask(SIG_UNBLOCK, &only, 0);
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (sigaction(SIGSYS, &action, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        die("cannot install its seccomp filter");
}
