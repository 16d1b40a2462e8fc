/* What a read of a file costs by each means there is: pread, preadv2(RWF_NOWAIT), a pool of threads, io_uring.
 *
 *     gcc -O2 -pthread -o /tmp/file_reads benchmarks/c/file_reads.c && /tmp/file_reads FOLDER
 *
 * FOLDER is on the disk in question (not tmpfs). Reads of 4 KiB at random places of a 256 MiB file, one at a time and 64 at once;
 * `cached`: all of it stands in the page cache; `on disk`: thrown out of it before each round (fadvise). It prints microseconds
 * of wall and processor time per read, the best of five rounds. io_uring is spoken to by its system calls alone (no library),
 * without a polling thread of the kernel's. The pool has 8 threads; who waits for one sleeps on a futex, as an event loop would on
 * its eventfd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 65536, AT_ONCE = 64, THREADS = 8, ROUNDS = 5 };

static int file;
static char *memory; /* AT_ONCE blocks */
static uint64_t seed = 88172645463325252u;

static off_t
place(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (off_t)(seed % BLOCKS) * BLOCK;
}

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- by a system call ----------------------------------------------------------------------------------------------------- */

static void
by_pread(int count)
{
    for (int i = 0; i < count; i++) {
        if (pread(file, memory + i * BLOCK, BLOCK, place()) != BLOCK) {
            die("pread");
        }
    }
}

static long refused;

static void
by_nowait(int count)
{
    for (int i = 0; i < count; i++) {
        struct iovec to = {memory + i * BLOCK, BLOCK};
        if (preadv2(file, &to, 1, place(), RWF_NOWAIT) != BLOCK) {
            refused++;
        }
    }
}

/* ---- by threads ----------------------------------------------------------------------------------------------------------- */

static struct {
    char *to;
    off_t at;
} jobs[AT_ONCE];
static int next_job;
static sem_t given, done;

static void *
worker(void *unused)
{
    for (;;) {
        sem_wait(&given);
        int i = __atomic_fetch_add(&next_job, 1, __ATOMIC_SEQ_CST) % AT_ONCE;
        if (pread(file, jobs[i].to, BLOCK, jobs[i].at) != BLOCK) {
            die("pread");
        }
        sem_post(&done);
    }
    return unused;
}

static int put_job;

static void
by_threads(int count)
{
    for (int i = 0; i < count; i++) {
        int at = put_job++ % AT_ONCE;
        jobs[at].to = memory + i * BLOCK;
        jobs[at].at = place();
        sem_post(&given);
    }
    for (int i = 0; i < count; i++) {
        sem_wait(&done);
    }
}

/* What bateau does: ask for what is there, and let a thread read the rest. */
static void
by_nowait_then_threads(int count)
{
    int handed = 0;
    for (int i = 0; i < count; i++) {
        off_t at = place();
        struct iovec to = {memory + i * BLOCK, BLOCK};
        if (preadv2(file, &to, 1, at, RWF_NOWAIT) != BLOCK) {
            int job = put_job++ % AT_ONCE;
            jobs[job].to = to.iov_base;
            jobs[job].at = at;
            handed++;
            sem_post(&given);
        }
    }
    while (handed--) {
        sem_wait(&done);
    }
}

/* ---- by io_uring ---------------------------------------------------------------------------------------------------------- */

static struct {
    int fd;
    unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;

static int
open_ring(void)
{
    struct io_uring_params given_params;
    memset(&given_params, 0, sizeof given_params);
    ring.fd = (int)syscall(SYS_io_uring_setup, AT_ONCE, &given_params);
    if (ring.fd < 0) {
        return -1;
    }
    struct io_sqring_offsets *sq = &given_params.sq_off;
    struct io_cqring_offsets *cq = &given_params.cq_off;
    size_t size = cq->cqes + given_params.cq_entries * sizeof(struct io_uring_cqe);
    size_t other = sq->array + given_params.sq_entries * sizeof(unsigned);
    size = size > other ? size : other;
    char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
    ring.sqes = mmap(NULL, given_params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     ring.fd, IORING_OFF_SQES);
    if (base == MAP_FAILED || ring.sqes == MAP_FAILED) {
        die("mmap");
    }
    ring.sq_tail = (unsigned *)(base + sq->tail);
    ring.sq_mask = (unsigned *)(base + sq->ring_mask);
    ring.sq_array = (unsigned *)(base + sq->array);
    ring.cq_head = (unsigned *)(base + cq->head);
    ring.cq_tail = (unsigned *)(base + cq->tail);
    ring.cq_mask = (unsigned *)(base + cq->ring_mask);
    ring.cqes = (struct io_uring_cqe *)(base + cq->cqes);
    return 0;
}

static void
by_ring(int count)
{
    unsigned tail = *ring.sq_tail;
    for (int i = 0; i < count; i++) {
        unsigned at = tail & *ring.sq_mask;
        struct io_uring_sqe *entry = &ring.sqes[at];
        memset(entry, 0, sizeof *entry);
        entry->opcode = IORING_OP_READ;
        entry->fd = file;
        entry->addr = (uint64_t)(uintptr_t)(memory + i * BLOCK);
        entry->len = BLOCK;
        entry->off = (uint64_t)place();
        ring.sq_array[at] = at;
        tail++;
    }
    __atomic_store_n(ring.sq_tail, tail, __ATOMIC_RELEASE);
    unsigned to_submit = (unsigned)count, left = (unsigned)count;
    while (left) {
        long entered = syscall(SYS_io_uring_enter, ring.fd, to_submit, left, IORING_ENTER_GETEVENTS, NULL, 0);
        if (entered < 0) {
            if (errno == EINTR) {
                continue;
            }
            die("io_uring_enter");
        }
        to_submit -= (unsigned)entered;
        unsigned head = *ring.cq_head;
        while (head != __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE)) {
            if (ring.cqes[head & *ring.cq_mask].res != BLOCK) {
                errno = -ring.cqes[head & *ring.cq_mask].res;
                die("a read by io_uring");
            }
            head++;
            left--;
        }
        __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    }
}

/* ---- measuring ------------------------------------------------------------------------------------------------------------ */

static double
wall(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec * 1e-3;
}

static double
processor(void)
{
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec * 1e-3;
}

static void
measure(const char *name, void (*read_some)(int), int count, int cached)
{
    double best_wall = 1e18, best_cpu = 1e18;
    int times = (cached ? 20000 : 2000) / count;
    for (int round = 0; round < ROUNDS; round++) {
        if (cached) {
            posix_fadvise(file, 0, 0, POSIX_FADV_WILLNEED);
        }
        else {
            fdatasync(file);
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        }
        double began = wall(), began_cpu = processor();
        for (int i = 0; i < times; i++) {
            read_some(count);
        }
        double took = (wall() - began) / times / count, cpu = (processor() - began_cpu) / times / count;
        best_wall = took < best_wall ? took : best_wall;
        best_cpu = cpu < best_cpu ? cpu : best_cpu;
    }
    printf("| %-24s | %7s | %2d | %8.2f | %8.2f |\n", name, cached ? "cached" : "on disk", count, best_wall, best_cpu);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    char path[4096];
    if (argc != 2) {
        fprintf(stderr, "usage: file_reads FOLDER\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/file_reads.XXXXXX", argv[1]);
    file = mkstemp(path);
    if (file < 0) {
        die(path);
    }
    unlink(path);
    memory = mmap(NULL, (size_t)AT_ONCE * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    memset(memory, 'x', (size_t)AT_ONCE * BLOCK);
    for (int i = 0; i < BLOCKS / AT_ONCE; i++) {
        if (write(file, memory, (size_t)AT_ONCE * BLOCK) != (ssize_t)AT_ONCE * BLOCK) {
            die("write");
        }
    }
    fdatasync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM); /* no reading ahead: each read is one of its own */
    sem_init(&given, 0, 0);
    sem_init(&done, 0, 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, worker, NULL);
        pthread_detach(thread);
    }
    int has_ring = open_ring() == 0;
    if (!has_ring) {
        printf("io_uring_setup: %s\n", strerror(errno));
    }
    printf("| means                    | file    | at once | wall us | CPU us |\n|---|---|---|---|---|\n");
    for (int cached = 1; cached >= 0; cached--) {
        for (int count = 1; count <= AT_ONCE; count += AT_ONCE - 1) {
            measure("pread", by_pread, count, cached);
            if (cached) {
                refused = 0;
                measure("preadv2(RWF_NOWAIT)", by_nowait, count, cached);
                if (refused) {
                    printf("(%ld of them had to wait)\n", refused);
                }
            }
            measure("threads", by_threads, count, cached);
            measure("RWF_NOWAIT, then threads", by_nowait_then_threads, count, cached);
            if (has_ring) {
                measure("io_uring", by_ring, count, cached);
            }
        }
    }
    return 0;
}
