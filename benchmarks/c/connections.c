/* The other end of connections that are made and ended, one after another, each with one byte there and back.
 *
 *     connections client PORT N    make N of them to a server of the measured library
 *     connections server N         print a port, accept N of them
 *
 * This end closes second, and with a reset, so that no port is kept in TIME_WAIT and a run can be of any length. Status 3: all came, but the
 * measured side did not close. */
#include "common.h"

static void close_with_reset(int fd) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0) fail("SO_LINGER");
    close(fd);
}

/* Some libraries leave a socket open after its end: that is waited for once, and told by the status. */
static int left_open;

static void expect_end(int fd) {
    char byte;
    struct timeval limit = {.tv_sec = 2};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) fail("SO_RCVTIMEO");
    if (!left_open && recv(fd, &byte, 1, 0) != 0) {
        if (errno != EAGAIN) fail("the other end did not close");
        left_open = 1;
    }
    close_with_reset(fd);
}

static void client(int port, long n) {
    for (long i = 0; i < n; i++) {
        char byte = 'x', back = 0;
        int fd = tcp_to(port, 0);
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) fail("send");
        if (recv(fd, &back, 1, 0) != 1 || back != byte) fail("recv");
        expect_end(fd);
    }
}

static void server(long n) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    if (listening < 0) fail("socket");
    if (bind(listening, (struct sockaddr *)&address, size) < 0) fail("bind");
    if (listen(listening, 1024) < 0) fail("listen");
    if (getsockname(listening, (struct sockaddr *)&address, &size) < 0) fail("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (long i = 0; i < n; i++) {
        char byte;
        int fd = accept(listening, NULL, NULL);
        if (fd < 0) fail("accept");
        if (recv(fd, &byte, 1, 0) != 1 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1) fail("echo");
        expect_end(fd);
    }
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "client") == 0) {
        client((int)number(argv[2], "PORT", 1), number(argv[3], "N", 1));
    } else if (argc == 3 && strcmp(argv[1], "server") == 0) {
        server(number(argv[2], "N", 1));
    } else {
        complain("usage: connections client PORT N | connections server N");
    }
    return left_open ? 3 : 0;
}
