/* The load of the workload tcp_echo: CONNECTIONS TCP connections, each with one message of SIZE bytes in flight.
 *
 * In C and in a process of its own, so that the server's figures contain nothing of the client and the client is not the
 * bottleneck. A closed loop: a connection sends its next message when it has read back all of the last one, compared
 * byte for byte. Exits 0 only if every message came back unchanged and the server closed every connection after us; 3 if all came
 * back but the server left connections open for half a second after our end of them (rloop 0.5 closes a socket when its
 * transport is collected).
 *
 * Before the others one connection is opened, used for one message and closed: a server's first read may cost it what no
 * later one does (asyncio's buffer of 256 KiB is mapped anew for each read until the first has been freed). Messages begin
 * when the server has had time to accept all connections, and none is closed before the last message has come back, so that a
 * server can count what messages cost without what opening and closing cost.
 *
 *   echo_client PORT CONNECTIONS MESSAGES_PER_CONNECTION SIZE
 */
#include "common.h"

static size_t size; /* of a message */

struct connection {
    int fd;
    long left;     /* messages not yet echoed, the one in flight included */
    size_t filled; /* bytes of the current echo that have arrived */
    char *sent, *received;
};

/* A blocking socket takes a message whole: at most one is unread per connection. Anything else is an error. */
static void send_next(struct connection *c) {
    memcpy(c->sent, &c->left, sizeof c->left); /* so that an echo of an older message is noticed */
    c->filled = 0;
    if (send(c->fd, c->sent, size, MSG_NOSIGNAL) != (ssize_t)size) fail("send");
}

static void open_connection(struct connection *c, int port, int index, long messages) {
    c->left = messages;
    c->sent = malloc(size);
    c->received = malloc(size);
    if (!c->sent || !c->received) fail("malloc");
    memset(c->sent, 'a' + index % 26, size);
    c->fd = tcp_to(port, index);
}

static int left_open; /* the server has been seen to leave a connection open */

/* The server is to answer our end of file with its own. Who has left one open is not waited for again. */
static void close_connection(struct connection *c) {
    struct pollfd readable = {.fd = c->fd, .events = POLLIN};
    char byte;
    if (shutdown(c->fd, SHUT_WR) < 0) fail("shutdown");
    if (!left_open && poll(&readable, 1, 500) == 0) left_open = 1;
    if (!left_open && recv(c->fd, &byte, 1, 0) != 0) complain("echo_client: the server did not close a connection cleanly");
    close(c->fd);
    free(c->sent);
    free(c->received);
}

/* Returns 1 when the connection has done all its messages. */
static int on_readable(struct connection *c) {
    ssize_t got = recv(c->fd, c->received + c->filled, size - c->filled, 0);
    if (got < 0) fail("recv");
    if (got == 0) complain("echo_client: the server closed a connection early");
    c->filled += (size_t)got;
    if (c->filled < size) return 0;
    if (memcmp(c->sent, c->received, size) != 0) complain("echo_client: an echo differs from what was sent");
    if (--c->left > 0) {
        send_next(c);
        return 0;
    }
    return 1;
}

static void warm(int port) {
    struct connection c;
    open_connection(&c, port, 0, 1);
    send_next(&c);
    while (!on_readable(&c)) {
    }
    close_connection(&c);
}

int main(int argc, char **argv) {
    if (argc != 5) complain("usage: echo_client PORT CONNECTIONS MESSAGES_PER_CONNECTION SIZE");
    int port = (int)number(argv[1], "PORT", 1), count = (int)number(argv[2], "CONNECTIONS", 1), busy = count;
    long messages = number(argv[3], "MESSAGES_PER_CONNECTION", 1);
    size = (size_t)number(argv[4], "SIZE", sizeof(long));
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    struct epoll_event events[256];
    int epoll = epoll_create1(0);
    if (!connections || epoll < 0) fail("set-up");

    warm(port);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        open_connection(&connections[i], port, i, messages);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) < 0) fail("epoll_ctl");
    }
    usleep(20000 + 200 * (unsigned)count);
    for (int i = 0; i < count; i++) send_next(&connections[i]);
    while (busy > 0) {
        int ready = epoll_wait(epoll, events, 256, 20000);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        if (ready == 0) complain("echo_client: the server was silent for 20 s");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            busy -= on_readable(c);
        }
    }
    for (int i = 0; i < count; i++) close_connection(&connections[i]);
    return left_open ? 3 : 0;
}
