/* What the loads and limits share: giving up with a word, sockets on the loopback, and what a server tells of itself. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char *what) {
    perror(what);
    exit(1);
}

static inline void complain(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A connected TCP socket, blocking. The system gives half of its ports to connect() and then searches long for another one, so
 * the index-th connection comes from an address of its own for each ten thousand: 127.0.0.1, 127.0.0.2... */
static inline int tcp_to(int port, long index) {
    struct sockaddr_in address = loopback(port), own = loopback(0);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    own.sin_addr.s_addr = htonl((in_addr_t)(INADDR_LOOPBACK + index / 10000));
    if (fd < 0) fail("socket");
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) < 0) fail("IP_BIND_ADDRESS_NO_PORT");
    if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0) fail("bind");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0) fail("TCP_NODELAY");
    return fd;
}

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline long number(const char *text, const char *what, long least) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < least) {
        fprintf(stderr, "%s must be a whole number of at least %ld, not %s\n", what, least, text);
        exit(1);
    }
    return value;
}
#endif
