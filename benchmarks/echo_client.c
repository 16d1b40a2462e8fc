/* The load of the workload tcp_echo: CONNECTIONS TCP connections, each with one 64-byte message in flight.
 *
 * In C and in a process of its own, so that the server's figures contain nothing of the client and the client is not the
 * bottleneck. A closed loop: a connection sends its next message when it has read back all of the last one, compared
 * byte for byte. Exits 0 only if every message came back unchanged and the server closed every connection after us.
 *
 *   echo_client PORT CONNECTIONS MESSAGES_PER_CONNECTION [CPU]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 64 };

struct connection {
    int fd;
    long left;     /* messages not yet echoed, the one in flight included */
    size_t filled; /* bytes of the current echo that have arrived */
    char sent[SIZE], received[SIZE];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void complain(const char *what) {
    fprintf(stderr, "echo_client: %s\n", what);
    exit(1);
}

/* A 64-byte write never meets a full buffer here: at most one is unread per connection. Anything else is an error. */
static void send_next(struct connection *c) {
    memcpy(c->sent, &c->left, sizeof c->left); /* so that an echo of an older message is noticed */
    c->filled = 0;
    if (send(c->fd, c->sent, SIZE, MSG_NOSIGNAL) != SIZE) fail("send");
}

static void connect_to(struct connection *c, int port, int index, long messages) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->left = messages;
    memset(c->sent, 'a' + index % 26, SIZE);
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0) fail("TCP_NODELAY");
}

/* Returns 1 when the connection has done all its messages and is half-closed. */
static int on_readable(struct connection *c) {
    ssize_t got = recv(c->fd, c->received + c->filled, SIZE - c->filled, 0);
    if (got < 0) fail("recv");
    if (got == 0) complain("the server closed a connection early");
    c->filled += (size_t)got;
    if (c->filled < SIZE) return 0;
    if (memcmp(c->sent, c->received, SIZE) != 0) complain("an echo differs from what was sent");
    if (--c->left > 0) {
        send_next(c);
        return 0;
    }
    if (shutdown(c->fd, SHUT_WR) < 0) fail("shutdown");
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) complain("usage: echo_client PORT CONNECTIONS MESSAGES_PER_CONNECTION [CPU]");
    int port = atoi(argv[1]), count = atoi(argv[2]), busy = count;
    long messages = atol(argv[3]);
    if (port <= 0 || count <= 0 || messages <= 0) complain("all numbers must be positive");
    if (argc > 4) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET((size_t)atoi(argv[4]), &cpus);
        if (sched_setaffinity(0, sizeof cpus, &cpus) < 0) fail("sched_setaffinity");
    }
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    struct epoll_event events[256];
    int epoll = epoll_create1(0);
    if (!connections || epoll < 0) fail("set-up");

    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        connect_to(&connections[i], port, i, messages);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) < 0) fail("epoll_ctl");
    }
    for (int i = 0; i < count; i++) send_next(&connections[i]);
    while (busy > 0) {
        int ready = epoll_wait(epoll, events, 256, 20000);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        if (ready == 0) complain("the server was silent for 20 s");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (on_readable(c)) {
                if (epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL) < 0) fail("epoll_ctl");
                busy--;
            }
        }
    }
    for (int i = 0; i < count; i++) { /* the server must answer our end of file with its own */
        char byte;
        if (recv(connections[i].fd, &byte, 1, 0) != 0) complain("the server did not close a connection cleanly");
        close(connections[i].fd);
    }
    return 0;
}
