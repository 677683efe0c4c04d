/* The threads, and which descriptors each of them waits for (worker.h).
 *
 * None ever waits for anything but its descriptors, or for its call. A turn takes a few reads, or TIME_PER_TURN; what
 * waits for more of its kind leaves at the end of it. */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { EVENTS = 16 };

static bool is_sender(const struct worker *worker) { return worker->number < FIRST_RECEIVER; }

static struct worker *sender_of(const struct core *core, unsigned queue)
{
    return core->workers[FIRST_SENDER + queue % core->each];
}

/* Threads. */

static void serve(struct worker *worker, const struct epoll_event *event)
{
    struct core *core = worker->core;
    if (event->data.ptr == worker)
        return; /* the stop descriptor */
    if (is_sender(worker))
        read_tun(worker, (unsigned)((_Atomic int *)event->data.ptr - core->queues));
    else
        read_socket(worker, event->data.ptr);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct core *core = worker->core;
    struct epoll_event events[EVENTS];
    prctl(PR_SET_NAME, is_sender(worker) ? "sojourn-send" : "sojourn-receive");
    while (!atomic_load(&core->stopping)) {
        int ready = epoll_wait(worker->epoll, events, EVENTS, -1);
        atomic_fetch_add(&core->turns[worker->number], 1);
        for (int i = 0; i < ready; i++)
            serve(worker, &events[i]);
        atomic_fetch_add(&core->turns[worker->number], 1);
    }
    return NULL;
}

static void *help(void *argument)
{
    struct worker *worker = argument;
    struct core *core = worker->core;
    uint64_t calls;
    prctl(PR_SET_NAME, "sojourn-help");
    while (!atomic_load(&core->stopping)) {
        if (read(worker->stop, &calls, sizeof calls) < 0 && errno != EINTR)
            break;
        atomic_fetch_add(&core->turns[worker->number], 1);
        struct udp_socket *socket = atomic_load(&worker->helps);
        if (socket)
            read_socket(worker, socket);
        atomic_store(&worker->helps, NULL);
        atomic_fetch_add(&core->turns[worker->number], 1);
    }
    return NULL;
}

/* There is more in a socket than one call takes: let one more thread read it, if one sleeps. */
void call_helpers(struct core *core, struct udp_socket *socket)
{
    const uint64_t one = 1;
    for (unsigned i = 1; i < core->each; i++) {
        struct worker *worker = core->workers[FIRST_RECEIVER + i];
        struct udp_socket *none = NULL;
        if (!atomic_compare_exchange_strong(&worker->helps, &none, socket))
            continue;
        if (write(worker->stop, &one, sizeof one) < 0)
            atomic_store(&worker->helps, NULL);
        return;
    }
}

static void worker_free(struct worker *worker)
{
    sender_clear(&worker->sender);
    free(worker->scratch);
    if (worker->epoll >= 0)
        close(worker->epoll);
    if (worker->stop >= 0)
        close(worker->stop);
    free(worker);
}

static bool watch_stop(struct worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = worker};
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    return worker->epoll >= 0 && !epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->stop, &event);
}

static struct worker *worker_new(struct core *core, unsigned number)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->core = core;
    worker->number = number;
    worker->epoll = -1;
    worker->stop = eventfd(0, EFD_CLOEXEC);
    bool ready = worker->stop >= 0 && (number > FIRST_RECEIVER || watch_stop(worker)) &&
                 (is_sender(worker) ? sender_init(&worker->sender, core, number, transmit, worker)
                                    : (worker->scratch = malloc(65536)) != NULL);
    if (ready)
        return worker;
    worker_free(worker);
    return NULL;
}

/* Let the threads run. Signals are Python's. */
bool workers_start(struct core *core)
{
    sigset_t all, before;
    bool started = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < MAX_THREADS && started; i++) {
        struct worker *worker = core->workers[i];
        if (worker)
            started = worker->started =
                !pthread_create(&worker->thread, NULL, worker->epoll < 0 ? help : work, worker);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    core->running = started;
    return started;
}

/* Make what they need, `each` of a direction. */
bool workers_make(struct core *core, unsigned each)
{
    core->each = each;
    if (!(core->line = line_new(core, each, read_messages, write_tun, NULL)))
        return false;
    core->line->receiver.answer = send_answer;
    for (unsigned i = 0; i < each; i++)
        if (!(core->workers[FIRST_SENDER + i] = worker_new(core, FIRST_SENDER + i)) ||
            !(core->workers[FIRST_RECEIVER + i] = worker_new(core, FIRST_RECEIVER + i)))
            return false;
    return true;
}

void workers_stop(struct core *core)
{
    uint64_t one = 1;
    atomic_store(&core->stopping, true);
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        struct worker *worker = core->workers[i];
        if (worker && worker->started && write(worker->stop, &one, sizeof one) == sizeof one)
            pthread_join(worker->thread, NULL);
    }
    for (unsigned i = 0; i < MAX_THREADS; i++) { /* a receiver may have called its helpers until it ended */
        if (core->workers[i])
            worker_free(core->workers[i]);
        core->workers[i] = NULL;
    }
    if (core->line)
        line_free(core->line);
    core->line = NULL;
    core->running = false;
}

/* Descriptors. Python opens and closes them. */

/* Read one more queue of the TUN. */
bool watch_tun(struct core *core, int fd, bool uso)
{
    for (unsigned i = 0; i < MAX_WORKERS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &core->queues[i]};
        if (atomic_load(&core->queues[i]) >= 0)
            continue;
        atomic_store(&core->tun_uso, uso);
        atomic_store(&core->queues[i], fd);
        if (!epoll_ctl(sender_of(core, i)->epoll, EPOLL_CTL_ADD, fd, &event))
            return true;
        atomic_store(&core->queues[i], -1);
        return false;
    }
    errno = EUSERS;
    return false;
}

struct udp_socket *watch_socket(struct core *core, int fd, int64_t tunnel, bool gso, bool gro)
{
    for (unsigned i = 0; i < MAX_SOCKETS; i++) {
        struct udp_socket *socket = &core->sockets[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};
        if (atomic_load(&socket->fd) >= 0)
            continue;
        socket->tunnel = tunnel;
        socket->gro = gro;
        atomic_store(&socket->gso, gso);
        atomic_store(&socket->fd, fd);
        if (!epoll_ctl(core->workers[FIRST_RECEIVER]->epoll, EPOLL_CTL_ADD, fd, &event))
            return socket;
        atomic_store(&socket->fd, -1);
        return NULL;
    }
    return NULL;
}

struct udp_socket *find_socket(struct core *core, int fd)
{
    for (unsigned i = 0; i < MAX_SOCKETS; i++)
        if (fd >= 0 && atomic_load(&core->sockets[i].fd) == fd)
            return &core->sockets[i];
    return NULL;
}

/* Have nothing more to do with a descriptor, which may be closed when this returns. */
void unwatch(struct core *core, int fd)
{
    struct udp_socket *socket = find_socket(core, fd);
    for (unsigned i = 0; i < MAX_WORKERS; i++)
        if (fd >= 0 && atomic_load(&core->queues[i]) == fd) {
            epoll_ctl(sender_of(core, i)->epoll, EPOLL_CTL_DEL, fd, NULL);
            atomic_store(&core->queues[i], -1);
        }
    if (socket) {
        epoll_ctl(core->workers[FIRST_RECEIVER]->epoll, EPOLL_CTL_DEL, fd, NULL);
        atomic_store(&socket->fd, -1);
    }
    quiesce(core);
}

/* Return the number of the first receiver's turn while datagrams wait that were not read, or not delivered, else -1. */
int64_t behind(struct core *core)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(core->workers[FIRST_RECEIVER]->epoll, events, EVENTS, 0);
    uint64_t turn = atomic_load(&core->turns[FIRST_RECEIVER]);
    return ready > 0 || turn & 1 || line_waits(core->line) ? (int64_t)turn : -1;
}
