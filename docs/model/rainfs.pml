/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol of docs/protocol.md: three racks, two replicas, two nodes, one or two names, exports that go away
   and come back with what they had, nodes killed at every step, a scrubber. Checked exhaustively for:
     - what is read was not superseded by an operation acknowledged before the reader began (no stale content);
     - "does not exist" is only said of what may not exist (no false ENOENT), a removed name is not seen again;
     - of exclusive creations of one name one succeeds;
     - nothing acknowledged is lost while one rack at a time is away (it is what reads are checked against).
   scripts/model runs it with the bounds below in several configurations, and once with each promise broken
   (-DNO_...), which must be found.

   One step is one operation on one export: its effect and its answer are one, so an operation that happens
   although it is answered by an error, or after its node died, is the simulated world's business, not this one's. */

#ifndef OPS
#define OPS 3          /* changes, all nodes together */
#endif
#ifndef READS
#define READS 1
#endif
#ifndef TOGGLES
#define TOGGLES 3      /* of exports' presence */
#endif
#ifndef SCRUBS
#define SCRUBS 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef NAMES
#define NAMES 1
#endif
#ifndef DOWN
#define DOWN 1         /* racks away at once */
#endif

#ifdef NO_GRACE
#define EARLY true
#else
#define EARLY false
#endif
#ifdef NO_NOREPLACE
#define UNREPLACED true
#else
#define UNREPLACED (pres[AT(0, target)] == has[target] && (!has[target] || stamp[AT(0, target)] == st[target]))
#endif
#define R 2
#define DENY 2         /* K-R+1 */
#define SCRUBBIT 128
#define GONE 64        /* a fact that says that the export missed a removal */
#define SEALED 3

#define AT(p, r) ((p) * 3 + (r))
#define FACT(p, t, h) F[((p) * 3 + (t)) * 3 + (h)]

bool up[3] = true;
byte down = 0;
/* The replicas. `set_by` is what the checks know and no export does: the change that made it what it is. */
bool pres[6]; byte set_by[6]; byte stamp[6];
byte F[18];            /* instances about a name and a target, on a holder */
byte intent[3];        /* on a holder: the change that intends to rename name 0 to name 1, 0 for none */
byte intent_source[3]; /* what it says of each export: the stamp under the old name, and under the new */
byte intent_target[3];
bool intent_alive = false;
byte acked[2];         /* the last acknowledged change of a name */
bool leaves[16];       /* leaves[n * 2 + p]: change n leaves something under name p */
bool touches[16];
byte winner = 0;       /* the exclusive creation that was acknowledged and not undone by a later change */
byte ops = 0, reads = 0, kills = 0;
bool busy[2];          /* programs do not change one name at once, unless they create it exclusively */
byte creating = 0;     /* names are not removed while they are being created: nobody knows of them yet */
byte removing = 0;     /* removals under way: a scrub stays announced for as long as those may take */
bool known[3];         /* every node's poll has seen that there are facts about this rack */
bool announced = false; /* a scrub, and every node knows */

/* While a scrub is announced agreement is not enough: a replica may just be being placed. */
#ifdef NO_ASK_WHILE_SCRUBBING
#define TRUSTED true
#else
#define TRUSTED (!announced)
#endif

#define AGREE(x, y) (has[x] && has[y] && st[x] == st[y] && !known[x] && !known[y])

#define PRESENT 1
#define ABSENT 2
#define UNPROVABLE 3

/* For every rack, one step each; ALL and END: within one step. */
#define EACH(i) i = 0; do :: atomic { i < 3 ->
#define NEXT(i) i++ } :: else -> break od; i = 0
#define ALL(i) i = 0; do :: i < 3 ->
#define END(i) i++ :: else -> break od; i = 0

inline clear_locals() {
  d_step { ALL(i) ans[i] = false; has[i] = false; ok[i] = false; blame[i] = false; st[i] = 0; by[i] = 0; b[i] = 0; END(i);
    res = 0; src = 9; t = 0; h = 0; k = 0; fast = false; good = false; un = 0; n_ans = 0; all_gone = false; other = 0 }
}
/* What each export says of a name. */
inline observe(p) {
  EACH(i) d_step { ans[i] = up[i]; has[i] = up[i] && pres[AT(p, i)]; st[i] = (has[i] -> stamp[AT(p, i)] : 0);
                   by[i] = (has[i] -> set_by[AT(p, i)] : 0) }; NEXT(i)
}
inline ask(p) {
  d_step { b[0] = 0; b[1] = 0; b[2] = 0 };
  ask_also(p)
}
inline ask_also(p) {
  EACH(i) d_step { if :: up[i] -> b[0] = b[0] | FACT(p, 0, i); b[1] = b[1] | FACT(p, 1, i); b[2] = b[2] | FACT(p, 2, i)
                      :: else -> ans[i] = false fi }; NEXT(i)
}
/* Agree, or ask the ledger; R to assert, K-R+1 to deny. */
inline locate(p) {
  good = TRUSTED;
  observe(p);
  d_step { res = 0; src = 9; fast = false;
    if :: !(good && TRUSTED) -> skip
       :: good && TRUSTED && AGREE(0, 1) -> src = 0; fast = true
       :: else -> if :: AGREE(0, 2) -> src = 0; fast = true
       :: else -> if :: AGREE(1, 2) -> src = 1; fast = true :: else fi fi fi;
    if :: fast -> res = PRESENT :: else fi }
  /* The ledger first, then the replicas once more: what was seen before may have been repaired, and its facts cleared, since. */
  if :: !fast -> ask(p);
#ifndef NO_SECOND_LOOK
       d_step { j = 0; ALL(i) ok[i] = ans[i]; if :: has[i] && b[i] == 0 -> j = 1 :: else fi; END(i) };
       observe(p);
       d_step { ALL(i) ans[i] = ans[i] && ok[i]; has[i] = has[i] && ok[i]; END(i) };
#ifndef NO_LOOK_TWICE
       /* What one look found and the next does not may have been renamed to where the next had looked already: that
          a name does not exist takes two looks in a row. */
       if :: j == 1 && !has[0] && !has[1] && !has[2] ->
             d_step { ALL(i) ok[i] = ans[i]; END(i) };
             observe(p);
             d_step { ALL(i) ans[i] = ans[i] && ok[i]; has[i] = has[i] && ok[i]; END(i) }
          :: else fi;
#endif
       j = 0;
#endif
#ifndef NO_ASK_AGAIN
       /* With racks away, what happened since the ledger was asked may be known to it only by now. */
       if :: !has[0] && !has[1] && !has[2] && !(ans[0] && ans[1] && ans[2]) -> ask_also(p) :: else fi;
#endif
       d_step { ALL(i) ok[i] = false; END(i); n_ans = 0; un = 0; all_gone = true;
         ALL(i)
           if :: ans[i] -> n_ans++; if :: b[i] == 0 -> un++ :: else fi :: else all_gone = false fi;
           if :: has[i] && !(b[i] & GONE) -> all_gone = false :: else fi;
           if :: has[i] && b[i] == 0 && (src == 9 || st[i] > st[src]) -> src = i :: else fi;
         END(i);
         if :: src != 9 && n_ans >= DENY -> res = PRESENT
            :: src == 9 && (un >= DENY || all_gone) -> res = ABSENT
            :: else -> res = UNPROVABLE fi }
     :: else -> d_step { b[0] = 0; b[1] = 0; b[2] = 0 }
  fi
}
/* Facts about a name and a target on both other racks; `good` tells whether they were recorded. */
inline record(p, target, bits) {
  k = 0; EACH(h) d_step { if :: h != target && up[h] -> FACT(p, target, h) = FACT(p, target, h) | (bits); k++ :: else fi }; NEXT(h);
  good = (k >= R)
}
inline record_all(p, bits) {
  good = true;
#ifndef NO_FACTS
  t = 0; do :: t < 3 && good -> if :: blame[t] -> record(p, t, bits) :: else fi; t++ :: else -> break od; t = 0
#endif
}
/* R racks that are behind would agree with each other: then all nodes must know of the facts first. */
inline make_known() {
#ifndef NO_KNOWN
  d_step { if :: good && (blame[0] + blame[1] + blame[2] >= R) -> ALL(i) known[i] = known[i] || blame[i]; END(i) :: else fi }
#endif
}
/* After facts: whoever relies on a replica that another blames may not acknowledge. */
inline read_back(p) {
#ifndef NO_READ_BACK
  if :: good && (blame[0] || blame[1] || blame[2]) -> ask(p);
        d_step { ALL(i) if :: ok[i] && b[i] != 0 -> good = false :: else fi; END(i) }
     :: else fi
#endif
}
/* Blame as many racks as make R together with the good ones. */
inline pad() {
#ifndef NO_SHORT
  d_step { k = 0; ALL(i) if :: ok[i] || blame[i] -> k++ :: else fi; END(i);
    ALL(i) if :: k < R && !ok[i] && !blame[i] -> blame[i] = true; k++ :: else fi; END(i); k = 0 }
#endif
}
#define DIE if :: kills < KILLS -> kills++; goto dead :: true fi
#define TWICE (announced || F[0] || F[1] || F[2] || F[3] || F[4] || F[5] || F[6] || F[7] || F[8])
#ifdef NO_UNREACHED
#define UNREACHED(i) false
#else
#define UNREACHED(i) (!fast && !ans[i])   /* fewer than R were found: the others may be where nobody answered */
#endif
#define NONE_OK (!ok[0] && !ok[1] && !ok[2])

inline acknowledge(n, p) { d_step { acked[p] = n } }

inline change_begins(n, p, stays) { d_step { ops++; n = ops; touches[n * 2 + p] = true; leaves[n * 2 + p] = stays } }

proctype Node(byte me) {
  bool ans[3], has[3], ok[3], blame[3], fast, good, all_gone, mine, removes, creates;
  byte st[3], by[3], b[3], res, src, i, h, t, k, n, p, un, n_ans, other, c0, j;
again:
  clear_locals();
  d_step { if :: creates -> creating--; creates = false :: else fi; n = 0; mine = false; c0 = 0; j = 0 };
  if
#ifdef WRITE
  :: ops < OPS && !busy[0] -> atomic { !busy[0] && ops < OPS; busy[0] = true; mine = true; change_begins(n, 0, true) }; goto write
#endif
#ifdef DELETE
  :: ops < OPS && !busy[0] -> atomic { !busy[0] && !creating && ops < OPS; busy[0] = true; mine = true; change_begins(n, 0, false) }; goto delete
#endif
#ifdef CREATE
  :: ops < OPS && !busy[0] -> atomic { !busy[0] && ops < OPS; creating++; creates = true; change_begins(n, 0, true) }; goto create
#endif
#ifdef RENAME
  :: ops < OPS && !busy[0] && !busy[1] -> atomic { !busy[0] && !busy[1] && ops < OPS; busy[0] = true; busy[1] = true; mine = true;
       change_begins(n, 0, false); d_step { touches[n * 2 + 1] = true; leaves[n * 2 + 1] = true } }; goto rename
#endif
  :: reads < READS -> atomic { reads < READS; reads++ }; goto read
  :: ops >= OPS && reads >= READS -> goto done
  fi;

read:
  p = 0; if :: true :: NAMES == 2 -> p = 1 fi;
  c0 = acked[p];
  locate(p);
  d_step {
    if :: res == PRESENT ->
            assert(by[src] >= c0);                       /* not superseded: no stale content, no resurrection */
            assert(leaves[by[src] * 2 + p])
       :: res == ABSENT ->
            j = c0; good = (c0 == 0 && !leaves[p]);
            do :: j <= ops -> if :: j > 0 && touches[j * 2 + p] && !leaves[j * 2 + p] -> good = true :: else fi;
                              j++ :: else -> break od;
            assert(good)                                 /* no false ENOENT */
       :: else fi; j = 0 }
  goto again;

write:
  locate(0);
  if :: res == UNPROVABLE -> goto over :: else fi;
  if :: res == PRESENT ->
          d_step { ALL(i) ok[i] = has[i] && b[i] == 0; blame[i] = (has[i] && b[i] != 0) || UNREACHED(i); END(i) }
     :: else -> /* made anew where nobody is blamed */
          d_step { k = 0; ALL(i) if :: ans[i] && b[i] == 0 && !has[i] && k < R -> ok[i] = true; k++ :: else fi; END(i); k = 0 }
  fi;
  DIE;
  EACH(h) if :: ok[h] -> d_step { if :: up[h] -> pres[AT(0, h)] = true; set_by[AT(0, h)] = n; stamp[AT(0, h)] = n * 4 + h
                                     :: else -> ok[h] = false; blame[h] = true fi }; DIE :: else fi; NEXT(h);
  if :: NONE_OK -> goto over :: else fi;
  EACH(h) if :: ok[h] -> d_step { if :: up[h] && pres[AT(0, h)] -> stamp[AT(0, h)] = n * 4 + SEALED
                                     :: else -> ok[h] = false; blame[h] = true fi }; DIE :: else fi; NEXT(h);
  if :: NONE_OK -> goto over :: else fi;
  pad();
  record_all(0, 1 << n);
  if :: !good -> goto over :: else fi;
  read_back(0);
  if :: !good -> goto over :: else fi;
  make_known();
  acknowledge(n, 0);
  goto over;

delete:
  locate(0);
  if :: res != PRESENT -> goto undone :: else fi;
  d_step { ALL(i) blame[i] = false; ok[i] = false; END(i); fast = TWICE; removing++; removes = true };
  EACH(h) d_step { if :: up[h] -> if :: pres[AT(0, h)] -> pres[AT(0, h)] = false; ok[h] = true; winner = 0 :: else fi
                                  :: else -> blame[h] = true fi }; DIE; NEXT(h);
  if :: NONE_OK -> goto over :: else fi;
  /* Facts for what was missed come before the second look: what was missed must not be a repairer's source any more. */
#ifndef NO_REMOVAL_FACTS
  record_all(0, (1 << n) | GONE);
  if :: !good -> goto over :: else fi;
#endif
#ifndef NO_SECOND
  if :: fast || TWICE ->
        d_step { ALL(i) blame[i] = false; END(i) };
        EACH(h) d_step { if :: up[h] -> if :: pres[AT(0, h)] -> pres[AT(0, h)] = false; winner = 0 :: else fi :: else -> blame[h] = true fi }; NEXT(h);
        record_all(0, (1 << n) | GONE);
        if :: !good -> goto over :: else fi
     :: else fi;
#endif
  atomic { removing--; removes = false };
  DIE;
  d_step { acked[0] = n; winner = 0 };
  goto over;

create:
  locate(0);
  if :: res != ABSENT -> goto undone :: else fi;
  d_step { k = 0; ALL(i) blame[i] = false; END(i) };
  /* In rendezvous order: the first that can decides between nodes, the others undo what meets another's. */
  EACH(h)
    if :: ans[h] && b[h] == 0 && k < R ->
          d_step { if :: !up[h] -> skip
#ifndef NO_EXCLUSIVE
                      :: up[h] && pres[AT(0, h)] -> other = 1
#endif
                      :: else -> pres[AT(0, h)] = true; set_by[AT(0, h)] = n; stamp[AT(0, h)] = n * 4 + SEALED; ok[h] = true; k++ fi };
          DIE
       :: else fi;
    if :: other -> break :: else fi;
  NEXT(h);
  h = 0;
  if :: other || NONE_OK -> goto take_back :: else fi;
  /* Another that sees other exports may have made it there. */
  /* That nobody has needs as much proof now as it did before. */
  if :: !(ans[0] && ans[1] && ans[2]) || k < R -> observe(0); ask(0);
        d_step { n_ans = 0;
          ALL(i) if :: has[i] && by[i] != n && b[i] == 0 -> other = 1 :: else fi;
                 if :: (ans[i] && b[i] == 0) || ok[i] -> n_ans++ :: else fi; END(i);
#ifndef NO_ALONE
          if :: n_ans < DENY -> other = 1 :: else fi;
#endif
          n_ans = 0 }
     :: else fi;
  if :: other -> goto take_back :: else fi;
  pad();
  record_all(0, 1 << n);
  if :: !good -> goto take_back :: else fi;
  read_back(0);
  if :: !good -> goto take_back :: else fi;
  d_step { acked[0] = n; good = false; /* unless it has been removed since, or undone by a repairer */
           ALL(i) if :: pres[AT(0, i)] && set_by[AT(0, i)] == n && !(FACT(0, i, 0) | FACT(0, i, 1) | FACT(0, i, 2)) -> good = true :: else fi; END(i);
           if :: good -> assert(winner == 0); winner = n :: else fi }; /* one winner */
  goto again;
take_back:
  EACH(h) if :: ok[h] -> d_step { if :: up[h] && set_by[AT(0, h)] == n -> pres[AT(0, h)] = false :: else fi } :: else fi; NEXT(h);
  goto again;

rename:
#ifdef RENAME
  locate(0);
  if :: res != PRESENT -> goto undone :: else fi;
  d_step { ALL(i) intent_source[i] = 0; ok[i] = has[i] && b[i] == 0; if :: ok[i] -> intent_source[i] = st[i] :: else fi;
                   blame[i] = false; END(i); c0 = 0; ALL(i) if :: ok[i] -> c0 = c0 | (1 << i) :: else fi; END(i) };
  locate(1);
  if :: res == UNPROVABLE -> goto undone :: else fi;
  d_step { ALL(i) intent_target[i] = (has[i] -> st[i] : 0); END(i) };
  /* Exports may be blamed about the new name although those that have it agree. */
  if :: fast -> ask(1) :: else fi;
#ifndef NO_BELIEVABLE
  d_step { good = false; ALL(i) if :: (c0 & (1 << i)) && b[i] == 0 -> good = true :: else fi; END(i) };
  if :: !good -> goto undone :: else fi;
#endif
#ifndef NO_INTENT
  k = 0; EACH(h) if :: k < R -> d_step { if :: up[h] -> intent[h] = n; k++ :: else fi }; DIE :: else fi; NEXT(h);
  if :: k == 0 -> goto undone :: else fi;
  intent_alive = true;
#endif
  d_step { ALL(i) ok[i] = false; blame[i] = !ans[i]; END(i) };
  /* Where the new name is not believed only after one where it is. */
  EACH(h) if :: (c0 & (1 << h)) && b[h] == 0 ->
          d_step { if :: up[h] && pres[AT(0, h)] -> pres[AT(1, h)] = true; stamp[AT(1, h)] = stamp[AT(0, h)];
                          set_by[AT(1, h)] = n; pres[AT(0, h)] = false; ok[h] = true
                      :: else -> blame[h] = true fi }; DIE
       :: else fi; NEXT(h);
  if :: NONE_OK -> goto undone :: else fi;
  EACH(h) if :: (c0 & (1 << h)) && b[h] != 0 ->
          d_step { if :: up[h] && pres[AT(0, h)] -> pres[AT(1, h)] = true; stamp[AT(1, h)] = stamp[AT(0, h)];
                          set_by[AT(1, h)] = n; pres[AT(0, h)] = false; ok[h] = true
                      :: else -> blame[h] = true fi }; DIE
       :: else fi; NEXT(h);
  if :: NONE_OK -> goto undone :: else fi;
  /* Facts about the new name before what is left of an overwritten file goes: the name always exists. */
  d_step { j = 0; c0 = 0;
    ALL(i) if :: ok[i] -> j = j | (1 << i) :: else fi; if :: blame[i] -> c0 = c0 | (1 << i) :: else fi;
           if :: ok[i] && b[i] != 0 -> ok[i] = false; blame[i] = true :: else fi; END(i) };
  if :: NONE_OK -> goto over :: else fi;
#ifndef NO_FACTS_FIRST
  pad();
  record_all(1, 1 << n);
  if :: !good -> goto over :: else fi;
  read_back(1);
  if :: !good -> goto over :: else fi;
#endif
  d_step { ALL(i) blame[i] = (c0 & (1 << i)) != 0; END(i) };
  /* What is left of it elsewhere, and of what did not count under the old name. */
  EACH(h) if :: !(j & (1 << h)) -> d_step { if :: up[h] -> pres[AT(1, h)] = false; pres[AT(0, h)] = false :: else -> blame[h] = true fi }; DIE
             :: else fi; NEXT(h);
  record_all(0, (1 << n) | GONE);
  if :: !good -> goto over :: else fi;
#ifdef NO_FACTS_FIRST
  pad();
#endif
  record_all(1, 1 << n);
  if :: !good -> goto over :: else fi;
  make_known();
  EACH(h) d_step { if :: up[h] && intent[h] == n -> intent[h] = 0 :: else fi }; DIE; NEXT(h);
  d_step { acked[0] = n; acked[1] = n };
#endif
  goto over;

undone: /* without effect: the change cannot be seen either */
over:
  atomic { if :: mine -> busy[0] = false; busy[1] = false :: else fi; if :: removes -> removing--; removes = false :: else fi;
           intent_alive = false };
  goto again;
dead: /* its memory is gone; a new one takes its place */
  atomic { if :: mine -> busy[0] = false; busy[1] = false :: else fi; if :: removes -> removing--; removes = false :: else fi;
           intent_alive = false };
  goto again;
done: clear_locals()
}

#ifdef RENAME
/* Whoever finds a rename that its node left half done finishes it, by identity: only what the intent has seen. */
proctype Finisher() {
  bool ok[3], blame[3], good, ans[3]; byte b[3], i, h, t, k, n, rounds;
again:
  do :: rounds < 2 && !intent_alive && (intent[0] || intent[1] || intent[2]) && !busy[0] && !busy[1] -> break
     :: ops >= OPS && reads >= READS -> goto done od;
  atomic { !busy[0] && !busy[1]; busy[0] = true; busy[1] = true; rounds++ };
  d_step { n = 0; ALL(i) ok[i] = false; blame[i] = false; if :: up[i] && intent[i] -> n = intent[i] :: else fi; END(i); k = 0 };
  if :: n == 0 -> goto over :: else fi;
  d_step { ALL(i) if :: up[i] && pres[AT(1, i)] && set_by[AT(1, i)] == n -> k = 1 :: else fi; END(i) };
  if :: k == 0 && up[0] && up[1] && up[2] -> goto drop :: else fi;
  if :: k == 0 -> goto over :: else fi;
  EACH(h)
    d_step { if :: !up[h] -> blame[h] = true
                :: up[h] && pres[AT(1, h)] && set_by[AT(1, h)] == n -> ok[h] = true
                :: up[h] && intent_source[h] && pres[AT(0, h)] && stamp[AT(0, h)] == intent_source[h] && set_by[AT(0, h)] < n ->
                     pres[AT(1, h)] = true; stamp[AT(1, h)] = stamp[AT(0, h)]; set_by[AT(1, h)] = n; pres[AT(0, h)] = false; ok[h] = true
                :: else fi };
  NEXT(h);
  record_all(0, (1 << n) | GONE);
  if :: !good -> goto over :: else fi;
  pad();
  record_all(1, 1 << n);
  if :: !good -> goto over :: else fi;
  d_step { ALL(i) blame[i] = false; END(i) };
  EACH(h)
    d_step { if :: up[h] && !ok[h] && !intent_source[h] && intent_target[h] && pres[AT(1, h)] && stamp[AT(1, h)] == intent_target[h] &&
                   set_by[AT(1, h)] < n -> pres[AT(1, h)] = false
                :: !up[h] && !ok[h] -> blame[h] = true
                :: else fi };
  NEXT(h);
  record_all(1, 1 << n);
  if :: !good -> goto over :: else fi;
drop:
  EACH(h) d_step { if :: up[h] && intent[h] == n -> intent[h] = 0 :: else fi }; NEXT(h);
over:
  atomic { busy[0] = false; busy[1] = false };
  d_step { n = 0; t = 0; h = 0; k = 0; good = false; ALL(i) ok[i] = false; blame[i] = false; END(i) };
  goto again;
done: skip
}
#endif

#if SCRUBS > 0
proctype Scrub() {
  bool ans[3], has[3], fast, good, all_gone; byte st[3], by[3], b[3], S[3], res, src, i, h, k, t, un, n_ans, target, rounds, copy_by, copy_st;
again:
  if :: rounds < SCRUBS -> rounds++ :: else -> goto done fi;
  announced = true;
  d_step { src = 9; copy_by = 0; copy_st = 0; n_ans = 0; un = 0; target = 0; ALL(i) S[i] = 0; b[i] = 0; END(i) };
  if :: target = 0 :: target = 1 :: target = 2 fi;
  if :: !up[target] -> goto over :: else fi;
  record(0, target, SCRUBBIT);
  if :: !good -> goto over :: else fi;
  EACH(i) d_step { S[i] = (up[i] -> FACT(0, target, i) : 0) }; NEXT(i);
  observe(0);
  ask(0);
  /* Only where there is none, or none that counts: what a writer may be writing to is not replaced. */
  if :: has[target] && ((S[0] | S[1] | S[2]) & (255 ^ SCRUBBIT)) == 0 -> goto over :: else fi;
  d_step { ALL(i)
     if :: i != target && ans[i] -> n_ans++; if :: b[i] == 0 -> un++ :: else fi :: else fi;
     if :: i != target && has[i] && b[i] == 0 && (src == 9 || st[i] > st[src]) -> src = i :: else fi; END(i) };
  if
  :: src != 9 && n_ans >= DENY ->
     if :: (st[src] & 3) != SEALED && busy[0] -> goto over :: else fi;      /* being written: another time */
     d_step { good = up[src] && pres[AT(0, src)]; if :: good -> copy_by = set_by[AT(0, src)]; copy_st = stamp[AT(0, src)] :: else fi };
     if :: !good -> goto over :: else fi;
     /* Renamed into place only over what was seen there. */
     d_step { good = up[target] && UNREPLACED; if :: good -> pres[AT(0, target)] = true; set_by[AT(0, target)] = copy_by; stamp[AT(0, target)] = copy_st :: else fi };
     if :: !good -> goto over :: else fi;
     /* Is the source still there, unchanged and believed? */
     d_step { good = up[src] && pres[AT(0, src)] && stamp[AT(0, src)] == copy_st };
     EACH(h) d_step { if :: h != src && up[h] && FACT(0, src, h) != 0 -> good = false :: else fi }; NEXT(h);
     if :: !good -> d_step { if :: up[target] -> pres[AT(0, target)] = false :: else fi }; goto over :: else fi
  :: src == 9 && un >= DENY ->
     d_step { good = up[target]; if :: good -> pres[AT(0, target)] = false :: else fi };
     if :: !good -> goto over :: else fi;
     observe(0);
     d_step { n_ans = 0; ALL(i) if :: i != target && ans[i] && !has[i] -> n_ans++ :: else fi; END(i) };
     if :: n_ans < DENY -> goto over :: else fi
  :: else -> goto over
  fi;
  EACH(i) d_step { if :: up[i] -> FACT(0, target, i) = FACT(0, target, i) & (255 ^ S[i]) :: else fi }; NEXT(i);
over:
  atomic { removing == 0 || EARLY; announced = false };
  goto again;
done: skip
}
#endif

proctype Weather() {
  byte e, toggles;
again:
  if :: toggles < TOGGLES && !(ops >= OPS && reads >= READS) -> toggles++ :: true -> goto done fi;
  if :: e = 0 :: e = 1 :: e = 2 fi;
  atomic { if :: up[e] && down < DOWN -> up[e] = false; down++ :: !up[e] -> up[e] = true; down-- :: else fi };
  e = 0;
  goto again;
done: skip
}

init {
  atomic {
#ifdef AT_FIRST
    pres[AT(0, 0)] = true; pres[AT(0, 1)] = true; stamp[AT(0, 0)] = SEALED; stamp[AT(0, 1)] = SEALED; leaves[0] = true;
#endif
#ifdef RENAME
    /* Both names are there, on two racks each that are not the same: the interesting beginning. */
    pres[AT(0, 0)] = true; pres[AT(0, 1)] = true; stamp[AT(0, 0)] = SEALED; stamp[AT(0, 1)] = SEALED;
    pres[AT(1, 1)] = true; pres[AT(1, 2)] = true; stamp[AT(1, 1)] = 4 * 4 + SEALED; stamp[AT(1, 2)] = 4 * 4 + SEALED;
    leaves[0] = true; leaves[1] = true;
#endif
    run Node(0);
#ifndef ONE_NODE
    run Node(1);
#endif
    run Weather();
#ifdef RENAME
    run Finisher();
#endif
#if SCRUBS > 0
    run Scrub()
#endif
  }
}
