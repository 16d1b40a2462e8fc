/* A camera library as vendors ship them: no callbacks, no descriptor to wait on, just "is there a frame?".
 *
 * The device makes `fps` frames a second by itself, whether anybody looks or not, and keeps the last BUFFERED of them.
 * cam_poll never waits: 1 and a frame, 0 for none yet, -1 once the device has been unplugged (after `frames` frames).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUFFERED = 4, PIXELS = 64 };

typedef struct {
    uint32_t device;
    uint32_t number;    /* of the frame: a gap means that frames were lost */
    double taken_at;    /* seconds, CLOCK_MONOTONIC */
    uint8_t pixels[PIXELS];
} cam_frame;

typedef struct {
    uint32_t device, frames, next;
    uint64_t polls;
    double start, period;
} cam;

static int cameras_open;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

cam *cam_open(uint32_t device, double fps, uint32_t frames) {
    cam *c = calloc(1, sizeof *c);
    if (c == NULL || fps <= 0) {
        free(c);
        return NULL;
    }
    c->device = device;
    c->frames = frames;
    c->period = 1.0 / fps;
    c->start = now();
    cameras_open++;
    return c;
}

int cam_poll(cam *c, cam_frame *out) {
    c->polls++;
    uint32_t made = (uint32_t)((now() - c->start) / c->period);
    if (made > c->frames)
        made = c->frames;
    if (c->next + BUFFERED < made)
        c->next = made - BUFFERED;   /* nobody came in time */
    if (c->next >= made)
        return c->next >= c->frames ? -1 : 0;
    out->device = c->device;
    out->number = c->next++;
    out->taken_at = c->start + out->number * c->period + c->period;
    memset(out->pixels, (int)(out->number & 0xff), PIXELS);
    return 1;
}

uint64_t cam_polls(const cam *c) { return c->polls; }
int cam_count_open(void) { return cameras_open; }

void cam_close(cam *c) {
    if (c != NULL)
        cameras_open--;
    free(c);
}
