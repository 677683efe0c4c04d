/* What is asked of a new flow. policy/subject.py, policy/match.py and datapath/guard.py say the same, and the tests
 * compare them. The key is that of packet/ip.py: protocol, local and remote address, local and remote port. */
#include "rules.h"

#include <stdlib.h>
#include <string.h>

static bool net_has(const struct net *net, const uint8_t *address, size_t size)
{
    bool inside = size == net->size;
    for (size_t i = 0; inside && i < size; i++)
        inside = (address[i] & net->mask[i]) == net->prefix[i];
    return inside;
}

static bool net_met(const struct net *net, const uint8_t *address, size_t size)
{
    return !net->size || net_has(net, address, size) != net->negated;
}

static bool ports_met(const struct ports *ports, uint16_t port)
{
    return !ports->asked || (ports->low <= port && port <= ports->high) != ports->negated;
}

static size_t address_bytes(const struct flow_key *key) { return (key->size - 5u) / 2; }
static const uint8_t *local_of(const struct flow_key *key) { return key->bytes + 1; }
static const uint8_t *remote_of(const struct flow_key *key) { return key->bytes + 1 + address_bytes(key); }
static uint16_t local_port(const struct flow_key *key) { return read16(key->bytes + key->size - 4); }
static uint16_t remote_port(const struct flow_key *key) { return read16(key->bytes + key->size - 2); }

static bool match_covers(const struct flow_match *match, const struct flow_key *key)
{
    const size_t size = address_bytes(key);
    return (match->protocol < 0 || (match->protocol == key->bytes[0]) != match->negated) &&
           ports_met(&match->destination_ports, remote_port(key)) && ports_met(&match->source_ports, local_port(key)) &&
           net_met(&match->destination, remote_of(key), size) && net_met(&match->source, local_of(key), size);
}

static bool any_has(const struct net *nets, unsigned count, const struct flow_key *key)
{
    for (unsigned i = 0; i < count; i++)
        if (net_has(&nets[i], remote_of(key), address_bytes(key)))
            return true;
    return false;
}

static bool rule_covers(const struct rule *rule, const struct flow_key *key)
{
    bool met = !rule->match_count;
    for (unsigned i = 0; !met && i < rule->match_count; i++)
        met = match_covers(&rule->matches[i], key);
    return met && (!rule->to_nets || any_has(rule->nets, rule->net_count, key));
}

/* Return where a flow goes by the first rule of a chain that covers it; `which`: that rule, -1 for none. */
int64_t book_place(const struct book *book, const struct chain *chain, const struct flow_key *key, int *which)
{
    for (unsigned i = 0; i < chain->count; i++) {
        const unsigned rule = chain->rules[i];
        if (rule < book->count && rule_covers(&book->rules[rule], key)) {
            *which = (int)rule;
            return book->rules[rule].tunnel;
        }
    }
    *which = -1;
    return book->otherwise;
}

/* Say whether a mobile host's flow may begin for certain. What may not, and signals, are for Python to judge and count. */
bool guard_passes(const struct guard *guard, const struct flow_key *key)
{
    if (any_has(guard->inner, guard->inner_count, key)) {
        if (key->bytes[0] == UDP && remote_port(key) == guard->signal_port)
            return false;
        for (unsigned i = 0; i < guard->port_count; i++)
            if (guard->ports[i] == remote_port(key))
                return true;
        return false;
    }
    return any_has(guard->allowed, guard->allowed_count, key) || !any_has(guard->refused, guard->refused_count, key);
}

void book_free(void *what)
{
    struct book *book = what;
    for (unsigned i = 0; book && book->rules && i < book->count; i++) {
        free(book->rules[i].matches);
        free(book->rules[i].nets);
    }
    if (book) {
        free(book->rules);
        free(book->nobody.rules);
    }
    free(book);
}

void guard_free(void *what)
{
    struct guard *guard = what;
    if (guard) {
        free(guard->inner);
        free(guard->refused);
        free(guard->allowed);
        free(guard->ports);
    }
    free(guard);
}

void known_free(void *what)
{
    struct known *known = what;
    if (known)
        free(known->chain.rules);
    free(known);
}
