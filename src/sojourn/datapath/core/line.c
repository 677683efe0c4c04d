/* The order of what is received (worker.h): read by one thread at a time, opened by all, delivered by one at a time. */
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SPAN = 2 /* loads that one run may reach over */ };

void line_free(struct line *line)
{
    for (unsigned i = 0; line->loads && i < line->room; i++) {
        for (unsigned j = 0; j < MANY; j++)
            free(line->loads[i].messages[j].data);
        free(line->loads[i].finds.at);
    }
    free(line->loads);
    pthread_mutex_destroy(&line->reading);
    free(line);
}

/* Make a line for so many threads, each of which may have a load to open while others wait to be delivered. */
struct line *line_new(struct core *core, unsigned threads, fill_fn *fill, write_fn *write, void *context)
{
    struct line *line = calloc(1, sizeof *line);
    if (!line)
        return NULL;
    line->core = core;
    line->fill = fill;
    line->room = threads > 1 ? 2 * threads + SPAN : SPAN;
    line->loads = calloc(line->room, sizeof *line->loads);
    pthread_mutex_init(&line->reading, NULL);
    receiver_init(&line->receiver, core, write, context);
    for (unsigned i = 0; line->loads && i < line->room; i++)
        for (unsigned j = 0; j < MANY; j++)
            if (!(line->loads[i].messages[j].data = malloc(65536))) { /* pages that nobody writes are none */
                line_free(line);
                return NULL;
            }
    if (line->loads)
        return line;
    line_free(line);
    return NULL;
}

static struct load *load_at(const struct line *line, uint64_t number) { return &line->loads[number % line->room]; }

/* Say whether something was read that was not delivered yet. */
bool line_waits(const struct line *line) { return atomic_load(&line->delivered) != atomic_load(&line->read); }

static void shortly(void)
{
    struct timespec moment = {0, 20000};
    nanosleep(&moment, NULL);
}

/* Wait until what has been read is delivered. */
void line_drain(struct line *line)
{
    const uint64_t read = atomic_load(&line->read);
    while (atomic_load(&line->delivered) < read)
        shortly();
}

static void deliver_load(struct line *line, uint64_t number)
{
    struct load *load = load_at(line, number);
    struct receiver *receiver = &line->receiver;
    const struct found *found = load->finds.at;
    for (unsigned i = 0; i < load->count; i++) {
        const struct batch *batch = &load->batches[i];
        receiver_take(receiver, batch, found, load->now);
        found += datagrams_of(batch);
    }
    if (load->last)
        receiver_flush(receiver);
    else
        receiver_keep_bank(receiver, number % line->room);
    atomic_store(&line->released, receiver->run.row ? number : number + 1);
    atomic_store(&line->delivered, number + 1);
}

static bool is_next(const struct line *line)
{
    const uint64_t number = atomic_load(&line->delivered);
    return number < atomic_load(&line->read) && atomic_load(&load_at(line, number)->opened) == number + 1;
}

/* Deliver what is next, if that is opened and nobody is doing so. All of this is sequentially consistent: whoever marks a
 * load as opened and finds somebody delivering is seen by that thread when it looks once more after it has ended. */
static void deliver(struct line *line)
{
    while (is_next(line) && !atomic_exchange(&line->delivering, true)) {
        while (is_next(line))
            deliver_load(line, atomic_load(&line->delivered));
        atomic_store(&line->delivering, false);
    }
}

static bool has_room(struct line *line)
{
    return atomic_load(&line->read) - atomic_load(&line->released) < line->room;
}

/* Read once, open, and deliver as far as everything before is opened; say whether there may be more to read. `ends`: the
 * caller will not read again in this turn. */
bool line_take(struct line *line, struct udp_socket *socket, unsigned thread, uint8_t *scratch, bool ends)
{
    pthread_mutex_lock(&line->reading);
    while (!has_room(line)) { /* somebody who is opening was kept from running */
        deliver(line);
        if (!has_room(line))
            shortly();
    }
    const uint64_t number = atomic_load(&line->read);
    struct load *load = load_at(line, number);
    load->count = 0;
    load->finds.count = 0;
    const bool more = line->fill(line, load, socket);
    load->last = ends || !more;
    for (unsigned i = 0; i < load->count; i++)
        load->batches[i].bank = number % line->room;
    atomic_store(&line->read, number + 1);
    pthread_mutex_unlock(&line->reading);
    unsigned opened = 0;
    while (opened < load->count && open_batch(line->core, &load->batches[opened], thread, scratch, &load->finds))
        opened++;
    load->count = opened;
    atomic_store(&load->opened, number + 1);
    deliver(line);
    return more;
}
