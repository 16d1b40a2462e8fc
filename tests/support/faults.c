/* System calls that fail on demand, loaded into a test's child process with LD_PRELOAD (support/faulty.py).
 *
 * What a machine does once a month (a connection that is gone before it is accepted, a queue that is full, a clock that is set) happens
 * here on the next call, and everything else is real. `fault_plan` says which call fails: after `skip` good ones, `times` times, with
 * errno `code`. `fault_limit` makes a call take at most so many bytes. `fault_clock` sets a clock forward or back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CALLS(X) \
    X(accept4) X(recv) X(recvfrom) X(send) X(sendto) X(sendmsg) X(read) X(write) X(writev) X(connect) X(epoll_wait) X(epoll_ctl) \
    X(getaddrinfo) X(pthread_create) X(sendfile) X(preadv2)

#define NUMBER(name) AT_##name,
enum { CALLS(NUMBER) COUNT };
#define TEXT(name) #name,
static const char *const names[] = {CALLS(TEXT)};

static struct {
    int code, skip, times, hits;
    size_t limit; /* 0: none */
} plans[COUNT];
static double steps[16];

static int
find(const char *name)
{
    for (int i = 0; i < COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int
fault_plan(const char *name, int code, int skip, int times)
{
    int at = find(name);
    if (at < 0) {
        return -1;
    }
    __atomic_store_n(&plans[at].times, 0, __ATOMIC_SEQ_CST);
    plans[at].code = code;
    plans[at].hits = 0;
    __atomic_store_n(&plans[at].skip, skip, __ATOMIC_SEQ_CST);
    __atomic_store_n(&plans[at].times, times, __ATOMIC_SEQ_CST);
    return 0;
}

int
fault_limit(const char *name, size_t limit)
{
    int at = find(name);
    if (at >= 0) {
        plans[at].limit = limit;
    }
    return at < 0 ? -1 : 0;
}

/* How many calls have failed since the plan was made. */
int
fault_hits(const char *name)
{
    int at = find(name);
    return at < 0 ? -1 : __atomic_load_n(&plans[at].hits, __ATOMIC_SEQ_CST);
}

void
fault_clock(int clock, double seconds)
{
    steps[clock] += seconds;
}

/* The errno this call fails with, or 0. */
static int
fails(int at)
{
    if (__atomic_load_n(&plans[at].times, __ATOMIC_SEQ_CST) <= 0) {
        return 0;
    }
    if (__atomic_sub_fetch(&plans[at].skip, 1, __ATOMIC_SEQ_CST) >= 0) {
        return 0;
    }
    if (__atomic_sub_fetch(&plans[at].times, 1, __ATOMIC_SEQ_CST) < 0) {
        return 0;
    }
    __atomic_add_fetch(&plans[at].hits, 1, __ATOMIC_SEQ_CST);
    return plans[at].code;
}

static size_t
at_most(int at, size_t n)
{
    size_t limit = plans[at].limit;
    return limit != 0 && n > limit ? limit : n;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) { \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    }
#define FAIL(name) \
    int code = fails(AT_##name); \
    if (code != 0) { \
        errno = code; \
        return -1; \
    }

int
accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    REAL(accept4)
    FAIL(accept4)
    return real(fd, address, length, flags);
}

ssize_t
recv(int fd, void *buffer, size_t n, int flags)
{
    REAL(recv)
    FAIL(recv)
    return real(fd, buffer, at_most(AT_recv, n), flags);
}

ssize_t
recvfrom(int fd, void *buffer, size_t n, int flags, struct sockaddr *address, socklen_t *length)
{
    REAL(recvfrom)
    FAIL(recvfrom)
    return real(fd, buffer, n, flags, address, length);
}

ssize_t
send(int fd, const void *buffer, size_t n, int flags)
{
    REAL(send)
    FAIL(send)
    return real(fd, buffer, at_most(AT_send, n), flags);
}

ssize_t
sendto(int fd, const void *buffer, size_t n, int flags, const struct sockaddr *address, socklen_t length)
{
    REAL(sendto)
    FAIL(sendto)
    return real(fd, buffer, n, flags, address, length);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg)
    FAIL(sendmsg)
    if (plans[AT_sendmsg].limit != 0 && message->msg_iovlen > 0) { /* the beginning of the first piece */
        struct msghdr cut = *message;
        struct iovec first = message->msg_iov[0];
        first.iov_len = at_most(AT_sendmsg, first.iov_len);
        cut.msg_iov = &first;
        cut.msg_iovlen = 1;
        return real(fd, &cut, flags);
    }
    return real(fd, message, flags);
}

ssize_t
read(int fd, void *buffer, size_t n)
{
    REAL(read)
    FAIL(read)
    return real(fd, buffer, n);
}

ssize_t
write(int fd, const void *buffer, size_t n)
{
    REAL(write)
    FAIL(write)
    return real(fd, buffer, at_most(AT_write, n));
}

ssize_t
writev(int fd, const struct iovec *pieces, int count)
{
    REAL(writev)
    FAIL(writev)
    return real(fd, pieces, count);
}

int
connect(int fd, const struct sockaddr *address, socklen_t length)
{
    REAL(connect)
    FAIL(connect)
    return real(fd, address, length);
}

int
epoll_wait(int fd, struct epoll_event *events, int room, int timeout)
{
    REAL(epoll_wait)
    FAIL(epoll_wait)
    return real(fd, events, room, timeout);
}

int
epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl)
    if (op == EPOLL_CTL_ADD) { /* the only one that needs anything of the kernel */
        FAIL(epoll_ctl)
    }
    return real(set, op, fd, event);
}

/* Its answer is a code of its own. */
int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    REAL(getaddrinfo)
    int code = hints != NULL && (hints->ai_flags & AI_NUMERICHOST) ? 0 : fails(AT_getaddrinfo);
    return code != 0 ? code : real(node, service, hints, found);
}

/* It returns what others leave in errno. */
int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    REAL(pthread_create)
    int code = fails(AT_pthread_create);
    return code != 0 ? code : real(thread, attributes, run, argument);
}

/* Reading what is in memory (RWF_NOWAIT), which is what it is used for. */
static ssize_t
read_vector(__typeof__(&preadv2) real, int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    FAIL(preadv2)
    if (plans[AT_preadv2].limit != 0 && count > 0) {
        struct iovec first = pieces[0];
        first.iov_len = at_most(AT_preadv2, first.iov_len);
        return real(fd, &first, 1, offset, flags);
    }
    return real(fd, pieces, count, offset, flags);
}

ssize_t
preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    REAL(preadv2)
    return read_vector(real, fd, pieces, count, offset, flags);
}

/* Its name where files may be large. */
ssize_t
preadv64v2(int fd, const struct iovec *pieces, int count, off64_t offset, int flags)
{
    REAL(preadv2)
    return read_vector(real, fd, pieces, count, offset, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count);

ssize_t
sendfile(int out, int in, off_t *offset, size_t count)
{
    REAL(sendfile)
    FAIL(sendfile)
    return real(out, in, offset, at_most(AT_sendfile, count));
}

int
clock_gettime(clockid_t clock, struct timespec *at)
{
    REAL(clock_gettime)
    int result = real(clock, at);
    if (result == 0 && clock >= 0 && clock < 16 && steps[clock] != 0) {
        double seconds = steps[clock];
        at->tv_sec += (time_t)seconds;
    }
    return result;
}
