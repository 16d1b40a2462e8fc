/* The load of the workload crowd, and the connections of memory/connection: very many clients who each ask once a second.
 *
 * Opens CLIENTS connections, a thousand at a time: each asks once, uncounted, and when all of them have been answered the next
 * thousand comes, so that no server's backlog overflows and all are accepted before anything is counted. Then, for SECONDS,
 * each sends one byte a second, at its own moment of the second, and reads 4096 bytes (PERIOD is that second in
 * milliseconds: a trial may have it shorter). An open loop: who gets an answer late asks again as soon as it has it, so
 * that a slow server gets all the
 * requests, later. Every byte of an answer is looked at: it must be the one that the first byte of the block announces.
 * Prints "DELIVERIES WALL P50 P99 MAX": seconds, latencies counted from the moment at which a request was due. Exits 0.
 * With SECONDS = 0 it only holds the connections, says "open", and closes them when its standard input ends.
 *
 *   crowd_client PORT CLIENTS SECONDS PERIOD
 */
#include "common.h"

enum { BLOCK = 4096, BATCH = 1000 };

struct client {
    int fd;
    int asked; /* requests sent */
    int busy;  /* an answer is outstanding */
    size_t filled;
    double due; /* when the request in flight, or the next one, was to be sent */
    unsigned char first;
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void ask(struct client *c) {
    c->busy = 1;
    c->filled = 0;
    c->asked++;
    if (send(c->fd, "?", 1, MSG_NOSIGNAL) != 1) fail("send");
}

/* Returns 1 when the answer is whole. */
static int on_readable(struct client *c) {
    unsigned char block[BLOCK];
    ssize_t got = recv(c->fd, block, BLOCK - c->filled, 0);
    if (got < 0) fail("recv");
    if (got == 0) complain("crowd_client: the server closed a connection early");
    if (c->filled == 0) c->first = block[0];
    for (ssize_t i = 0; i < got; i++)
        if (block[i] != c->first) complain("crowd_client: an answer is not one block of the file");
    c->filled += (size_t)got;
    if (c->filled < BLOCK) return 0;
    c->busy = 0;
    return 1;
}

/* Wait until so many answers have come. */
static void hear_all(int epoll, long outstanding) {
    struct epoll_event events[512];
    while (outstanding > 0) {
        int ready = epoll_wait(epoll, events, 512, 60000);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        if (ready == 0) complain("crowd_client: the server was silent for a minute");
        for (int i = 0; i < ready; i++) outstanding -= on_readable(events[i].data.ptr);
    }
}

static void hold(struct client *clients, long count) {
    char byte;
    printf("open\n");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
    for (long i = 0; i < count; i++) close(clients[i].fd);
}

int main(int argc, char **argv) {
    if (argc != 5) complain("usage: crowd_client PORT CLIENTS SECONDS PERIOD");
    int port = (int)number(argv[1], "PORT", 1);
    long count = number(argv[2], "CLIENTS", 1), seconds = number(argv[3], "SECONDS", 0);
    double period = (double)number(argv[4], "PERIOD", 1) / 1000;
    struct client *clients = calloc((size_t)count, sizeof *clients);
    double *latencies = calloc((size_t)(count * seconds + 1), sizeof *latencies);
    struct epoll_event events[512];
    int epoll = epoll_create1(0);
    if (!clients || !latencies || epoll < 0) fail("set-up");
    for (long i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        clients[i].fd = tcp_to(port, i);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) < 0) fail("epoll_ctl");
        if (seconds > 0) ask(&clients[i]);
        if (i + 1 < count && (i + 1) % BATCH != 0) continue;
        if (seconds == 0)
            usleep(100 * BATCH); /* nobody answers: time to accept them */
        else
            hear_all(epoll, i % BATCH + 1);
    }
    if (seconds == 0) {
        hold(clients, count);
        return 0;
    }
    for (long i = 0; i < count; i++) clients[i].asked = 0;

    double began = now() + 0.05, heard = began;
    for (long i = 0; i < count; i++) clients[i].due = began + period * (double)i / (double)count;
    long done = 0, next = 0; /* the client whose moment comes next; moments come in the order of the clients, round and round */
    int round = 0;
    while (done < count * seconds) {
        double at = now();
        while (round < seconds && began + period * (round + (double)next / (double)count) <= at) {
            if (!clients[next].busy && clients[next].asked == round) ask(&clients[next]);
            if (++next == count) {
                next = 0;
                round++;
            }
        }
        int ready = epoll_wait(epoll, events, 512, round < seconds ? 1 : 1000);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        if (ready > 0) heard = now();
        if (now() - heard > 60) complain("crowd_client: the server was silent for a minute");
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            if (!on_readable(c)) continue;
            double arrived = now();
            latencies[done++] = arrived - c->due;
            c->due += period;
            if (c->asked < seconds && c->due <= arrived) ask(c); /* late: its next moment has passed */
        }
    }
    double wall = now() - began;
    for (long i = 0; i < count; i++) close(clients[i].fd);
    qsort(latencies, (size_t)done, sizeof *latencies, compare);
    printf("%ld %f %f %f %f\n", done, wall, latencies[done / 2], latencies[done * 99 / 100], latencies[done - 1]);
    return 0;
}
