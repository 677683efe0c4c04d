/* Rows that the core makes itself: which new flows it may answer, and how Python hears of them.
 *
 *   rules.c        what is asked of a flow: matches, networks, rules in their order, an anchor's guard    no state
 *   births.c       who begins flows: associations, programs, limits; and the rows that came of it
 *   module_rules.c what Python sees (datapath/core_births.py)
 *
 * Whose is what, with any number of workers: books, guards, associations and known programs are written by Python's
 * thread alone and are replaced, never changed (table.c, retire); a worker reads them within one turn. The allowance
 * of an association is one atomic number. The queue of births has a lock, which nobody holds for longer than it takes
 * to link one entry. A row that was made here belongs to its birth until Python takes that (`births_take`), and to
 * Python's object from then on; until then `adopted` is false, and a row of Python's with the same key may take its
 * place (row_link). */
#ifndef SOJOURN_RULES_H
#define SOJOURN_RULES_H

#include "core.h"

enum {
    TO_PYTHON = -2,        /* the place of flows that the core leaves alone */
    OWNER_KEY_BYTES = 40,  /* bpf/owner.h: a flow key and zeros */
    USER_BYTES = 56,       /* bpf/owner.h: struct user */
    USER_PROCESS_AT = 24,  /* its process id: rules do not ask for that */
    KNOWN_USERS = 1 << 12, /* programs whose rules are known: a place each, by hash */
    HOLDERS = 1 << 12,     /* buckets of associations */
    MOST_BIRTHS = 1 << 15, /* that Python has not taken yet; of one host at an anchor a quarter */
    FLOWS_PER_SECOND = 200,
    FLOWS_AT_ONCE = 32768, /* datapath/rows.py */
};

struct net {
    uint8_t size; /* bytes of an address: 4 or 16; 0: not asked */
    bool negated;
    uint8_t prefix[16], mask[16];
};

struct ports {
    bool asked, negated;
    uint16_t low, high;
};

/* policy/match.py: all of it must be met. */
struct flow_match {
    int protocol; /* -1: not asked */
    bool negated;
    struct net source, destination;
    struct ports source_ports, destination_ports;
};

/* policy/rules.py, without what it asks of the program: one of the matches, if it has any, and one of the networks. */
struct rule {
    int64_t tunnel; /* where its flows go, or TO_PYTHON */
    bool to_nets;   /* the destination must be in one of `nets` */
    unsigned match_count, net_count;
    struct flow_match *matches;
    struct net *nets;
};

struct chain { /* the rules that are left for a program, in order */
    unsigned count;
    uint16_t *rules;
};

struct book {
    uint32_t version;
    bool asks;         /* some rule speaks of programs */
    int64_t otherwise; /* where flows go that no rule covers */
    unsigned count;
    struct rule *rules;
    struct chain nobody; /* for flows of a program that is not known */
};

struct guard { /* datapath/guard.py */
    uint16_t signal_port;
    unsigned inner_count, port_count, refused_count, allowed_count;
    struct net *inner, *refused, *allowed;
    uint16_t *ports;
};

struct known { /* a program whose chain Python has worked out */
    uint32_t version; /* of the book */
    struct chain chain;
    uint8_t user[USER_BYTES];
};

struct holder { /* an association: who may begin flows */
    _Atomic(struct holder *) next;
    int64_t association;
    uint8_t four[4], six[16];
    bool has_four, has_six;
    _Atomic int64_t full_at; /* its allowance as a time: so far ahead of now as there are flows begun and not made good */
};

struct birth {
    struct birth *next;
    struct row *row;
    int64_t at;
    uint32_t version; /* of the book that placed it */
    uint8_t user[USER_BYTES]; /* a mobile host's: who it was */
};

struct births {
    pthread_mutex_t lock;
    struct birth *first, **last;
    unsigned count, shares[SHARES]; /* those that are being made included */
    _Atomic(struct holder *) holders[HOLDERS];
    _Atomic(struct holder *) own; /* a mobile host's */
    _Atomic(struct guard *) guard;
    _Atomic(struct book *) book;
    _Atomic(struct known *) users[KNOWN_USERS];
    _Atomic int owners; /* descriptor of the BPF map flow -> user, -1: none */
};

/* rules.c */

int64_t book_place(const struct book *book, const struct chain *chain, const struct flow_key *key, int *which);
bool guard_passes(const struct guard *guard, const struct flow_key *key);
void book_free(void *book);
void guard_free(void *guard);
void known_free(void *known);

/* births.c */

bool births_make(struct core *core);
void births_free(struct core *core);
struct holder *holder_find(struct core *core, int64_t association);
bool holder_set(struct core *core, int64_t association, const uint8_t *four, const uint8_t *six);
void holder_drop(struct core *core, int64_t association);
bool may_begin(struct holder *holder, int64_t now);
void know_user(struct core *core, struct known *known);
struct birth *births_take(struct core *core);

/* Give a flow without a row one, if it may have it; NULL: it is for Python to say. `refused`: it is not to begin now,
 * and its packet is dropped and counted. Python is not asked: while it is behind, or a host begins flows as fast as it
 * can, what it has to do for the flows that are there, and for tunnels, comes first. */
struct row *born_there(struct core *core, int64_t association, uint32_t tunnel, const struct flow_key *key,
                       uint64_t hash, int64_t now, bool *refused);
struct row *born_here(struct core *core, const struct flow_key *key, uint64_t hash, int64_t now, bool *refused);

#endif
