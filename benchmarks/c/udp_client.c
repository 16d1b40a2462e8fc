/* The load of the workload udp_echo: SOCKETS UDP sockets, each with one datagram of 64 bytes in flight.
 *
 * A closed loop as in echo_client. A datagram that does not come back within 20 s was lost, which on the loopback with one in
 * flight per socket is an error. One datagram is echoed before the others, so that the server is warm.
 *
 *   udp_client PORT SOCKETS DATAGRAMS_PER_SOCKET
 */
#include "common.h"

enum { SIZE = 64 };

struct sender {
    int fd;
    long left;
    char sent[SIZE];
};

static void send_next(struct sender *s) {
    memcpy(s->sent, &s->left, sizeof s->left);
    if (send(s->fd, s->sent, SIZE, 0) != SIZE) fail("send");
}

static void open_sender(struct sender *s, int port, int index, long datagrams) {
    struct sockaddr_in address = loopback(port);
    s->left = datagrams;
    memset(s->sent, 'a' + index % 26, SIZE);
    if ((s->fd = socket(AF_INET, SOCK_DGRAM, 0)) < 0) fail("socket");
    if (connect(s->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
}

/* Returns 1 when the socket has done all its datagrams. */
static int on_readable(struct sender *s) {
    char received[SIZE + 1];
    ssize_t got = recv(s->fd, received, sizeof received, 0);
    if (got < 0) fail("recv");
    if (got != SIZE || memcmp(s->sent, received, SIZE) != 0) complain("udp_client: an echo differs from what was sent");
    if (--s->left > 0) {
        send_next(s);
        return 0;
    }
    close(s->fd);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) complain("usage: udp_client PORT SOCKETS DATAGRAMS_PER_SOCKET");
    int port = (int)number(argv[1], "PORT", 1), count = (int)number(argv[2], "SOCKETS", 1), busy = count;
    long datagrams = number(argv[3], "DATAGRAMS_PER_SOCKET", 1);
    struct sender *senders = calloc((size_t)count, sizeof *senders), first;
    struct epoll_event events[256];
    int epoll = epoll_create1(0);
    if (!senders || epoll < 0) fail("set-up");

    open_sender(&first, port, 0, 1);
    send_next(&first);
    on_readable(&first);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &senders[i]};
        open_sender(&senders[i], port, i, datagrams);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, senders[i].fd, &event) < 0) fail("epoll_ctl");
    }
    for (int i = 0; i < count; i++) send_next(&senders[i]);
    while (busy > 0) {
        int ready = epoll_wait(epoll, events, 256, 20000);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        if (ready == 0) complain("udp_client: a datagram was lost, or the server was silent for 20 s");
        for (int i = 0; i < ready; i++) busy -= on_readable(events[i].data.ptr);
    }
    return 0;
}
