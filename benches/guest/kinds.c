/*
 * bench-kinds: single kinds of work inside a Linux guest, each between two marks on standard output.
 *
 *     bench-kinds PERCENT KIND...
 *
 * prints for each kind
 *
 *     kind NAME begin
 *     kind NAME end CHECKSUM
 *
 * and does PERCENT of the work that takes an interpreter a second or two. What a kind prepares, it
 * prepares before its first mark. The checksum depends on the work alone, so it is the same on every
 * correct machine.
 *
 * Built static, for 32 and for 64 bits: gcc -static -O2 -fno-math-errno, with -m32 -msse2 -mfpmath=sse for 32. Where the
 * instructions are what a kind is about, they are written out; the rest is left to the compiler.
 */

#define _GNU_SOURCE
#include <emmintrin.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20 };

static _Noreturn void die(const char *what)
{
    dprintf(STDERR_FILENO, "bench-kinds: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void *map(size_t size, int more_rights)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE | more_rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        die("mmap");
    return at;
}

/* Memory with something in it, so that no page of it faults later. */
static void *filled(size_t size, int byte)
{
    return memset(map(size, 0), byte, size);
}

static uint32_t random_state;

static uint32_t next_random(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return random_state >> 8;
}

static uint32_t mix(uint32_t sum, uint32_t value)
{
    return (sum ^ value) * 16777619;
}

/* ---- The kernel ----------------------------------------------------------------------------------------- */

static uint32_t syscalls(uint32_t count)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < count; i++)
        done += syscall(SYS_getppid) > 0;
    return done;
}

static volatile uint32_t signals_seen;

static void on_signal(int number)
{
    signals_seen += number == SIGUSR1;
}

static void signal_prepare(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
}

static uint32_t signals(uint32_t count)
{
    pid_t self = getpid();
    for (uint32_t i = 0; i < count; i++)
        kill(self, SIGUSR1);
    return signals_seen;
}

static uint32_t page_faults(uint32_t count)
{
    enum { SIZE = 8 * MIB };
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        volatile uint8_t *at = map(SIZE, 0);
        madvise((void *)at, SIZE, MADV_NOHUGEPAGE);
        for (size_t offset = 0; offset < SIZE; offset += PAGE)
            at[offset] = 1, sum += at[offset];
        munmap((void *)at, SIZE);
    }
    return sum;
}

static uint32_t mappings(uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += munmap(map(16 * PAGE, 0), 16 * PAGE) == 0;
    return sum;
}

static uint32_t wait_for(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork");
    return WEXITSTATUS(status);
}

static uint32_t forks(uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        pid_t child = fork();
        if (!child)
            _exit(i & 127);
        sum = mix(sum, wait_for(child));
    }
    return sum;
}

static uint32_t execs(uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        pid_t child = fork();
        if (!child) {
            execl("/proc/self/exe", "bench-kinds", "exit", (char *)NULL);
            _exit(1);
        }
        sum += wait_for(child) == 0;
    }
    return sum;
}

/* Two processes hand a byte to and fro: two context switches and four system calls a turn. */
static uint32_t pipes(uint32_t count)
{
    int there[2], back[2];
    uint8_t byte = 0;
    if (pipe(there) || pipe(back))
        die("pipe");
    pid_t child = fork();
    if (!child) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            byte++, write(back[1], &byte, 1) == 1 || (_exit(1), 0);
        _exit(0);
    }
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            die("pipe");
        sum = mix(sum, byte);
    }
    close(there[1]);
    return sum + wait_for(child);
}

/* ---- Integers ------------------------------------------------------------------------------------------- */

static uint32_t integers(uint32_t count)
{
    uint32_t x = 2463534242u, sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        sum += x;
    }
    return sum;
}

static uint32_t multiplications(uint32_t count)
{
    uint64_t x = 1, sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        sum ^= x;
    }
    return (uint32_t)(sum >> 32);
}

static uint32_t divisions(uint32_t count)
{
    uint32_t x = 0xFFFFFFF1u, sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t divisor = i | 1;
        sum += x / divisor + x % divisor;
        x -= 12345;
    }
    return sum;
}

static uint32_t __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) fibonacci(uint32_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint32_t calls(uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum = mix(sum, fibonacci(16 + i % 4));
    return sum;
}

static uint8_t *sieve_of;

static void sieve_prepare(void)
{
    sieve_of = filled(MIB, 0);
}

static uint32_t sieves(uint32_t count)
{
    uint32_t primes = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t n = 0; n < MIB; n++)
            sieve_of[n] = n & 1;
        for (uint32_t n = 3; n * n < MIB; n += 2)
            if (sieve_of[n])
                for (uint32_t multiple = n * n; multiple < MIB; multiple += 2 * n)
                    sieve_of[multiple] = 0;
        for (uint32_t n = 0; n < MIB; n++)
            primes += sieve_of[n];
    }
    return primes;
}

enum { SORTED = 1 << 16 };
static uint32_t *to_sort;

static void quicksort_prepare(void)
{
    to_sort = filled(SORTED * sizeof *to_sort, 1);
}

static void sort(uint32_t *first, uint32_t *last)
{
    while (first < last) {
        uint32_t pivot = first[(last - first) / 2], *low = first, *high = last;
        while (low <= high) {
            while (*low < pivot)
                low++;
            while (*high > pivot)
                high--;
            if (low <= high) {
                uint32_t value = *low;
                *low++ = *high;
                *high-- = value;
            }
        }
        sort(first, high);
        first = low;
    }
}

static uint32_t quicksorts(uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t n = 0; n < SORTED; n++)
            to_sort[n] = next_random();
        sort(to_sort, to_sort + SORTED - 1);
        for (uint32_t n = 0; n < SORTED; n += 251)
            sum = mix(sum, to_sort[n]);
    }
    return sum;
}

/* A stack machine that runs the 3n+1 sequence of every number below 1,000. */
static uint32_t bytecode(uint32_t count)
{
    enum { PUSH, LOAD, STORE, ADD, MULTIPLY, SHIFT, AND, SUBTRACT, ZERO, JUMP, END };
    static const uint8_t program[] = {
        PUSH, 250, PUSH, 4, MULTIPLY, STORE, 0,                                /* 0: n = 1000 */
        LOAD, 0, PUSH, 1, SUBTRACT, STORE, 0,                                  /* 7: n -= 1 */
        LOAD, 0, ZERO, 60, LOAD, 0, STORE, 1,                                  /* 14: if !n goto 60; x = n */
        LOAD, 1, PUSH, 1, SUBTRACT, ZERO, 7,                                   /* 22: if x == 1 goto 7 */
        LOAD, 2, LOAD, 1, ADD, STORE, 2,                                       /* 29: sum += x */
        LOAD, 1, PUSH, 1, AND, ZERO, 53,                                       /* 36: if x is even goto 53 */
        LOAD, 1, PUSH, 3, MULTIPLY, PUSH, 1, ADD, JUMP, 56,                    /* 43: x = 3 * x + 1 */
        LOAD, 1, SHIFT, STORE, 1, JUMP, 22,                                    /* 53: x /= 2 */
        END,                                                                   /* 60 */
    };
    uint32_t variables[4] = {0}, stack[16];
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = program;
        uint32_t *top = stack;
        for (int running = 1; running;) {
            switch (*at++) {
            case PUSH: *top++ = *at++; break;
            case LOAD: *top++ = variables[*at++]; break;
            case STORE: variables[*at++] = *--top; break;
            case ADD: top--, top[-1] += top[0]; break;
            case MULTIPLY: top--, top[-1] *= top[0]; break;
            case SHIFT: top[-1] >>= 1; break;
            case AND: top--, top[-1] &= top[0]; break;
            case SUBTRACT: top--, top[-1] -= top[0]; break;
            case ZERO: at = *--top ? at + 1 : program + *at; break;
            case JUMP: at = program + *at; break;
            case END: running = 0; break;
            }
        }
    }
    return variables[2];
}

/* ---- Memory --------------------------------------------------------------------------------------------- */

struct link {
    struct link *next;
    char padding[64 - sizeof(struct link *)];
};
static struct link *chain;

/* One random cycle through all links, by Sattolo's shuffle. */
static void chain_prepare(size_t size)
{
    size_t links = size / sizeof *chain;
    chain = filled(size, 0);
    uint32_t *order = filled(links * sizeof *order, 1);
    for (size_t i = 0; i < links; i++)
        order[i] = i;
    for (size_t i = links - 1; i > 0; i--) {
        size_t other = next_random() % i;
        uint32_t index = order[i];
        order[i] = order[other];
        order[other] = index;
    }
    for (size_t i = 0; i < links; i++)
        chain[order[i]].next = &chain[order[(i + 1) % links]];
}

static void short_chain_prepare(void)
{
    chain_prepare(16 << 10);
}

static void long_chain_prepare(void)
{
    chain_prepare(24 * MIB);
}

static uint32_t chase(uint32_t count)
{
    struct link *at = chain;
    for (uint32_t i = 0; i < count; i++)
        at = at->next;
    return at - chain;
}

enum { COPIED = 8 * MIB };
static uint8_t *copy_from, *copy_to;

static void copy_prepare(void)
{
    copy_from = filled(COPIED, 0x5A);
    copy_to = filled(COPIED, 0);
    for (size_t offset = 0; offset < COPIED; offset += 61)
        copy_from[offset] = next_random();
}

static uint32_t sum_of_copy(void)
{
    uint32_t sum = 0;
    for (size_t offset = 0; offset < COPIED; offset += 4001)
        sum = mix(sum, copy_to[offset]);
    return sum;
}

static uint32_t sse2_copies(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *from = copy_from, *to = copy_to, *end = copy_from + COPIED;
        __asm__ volatile("1: movups (%0), %%xmm0\n"
                         "   movups 16(%0), %%xmm1\n"
                         "   movups 32(%0), %%xmm2\n"
                         "   movups 48(%0), %%xmm3\n"
                         "   movups %%xmm0, (%1)\n"
                         "   movups %%xmm1, 16(%1)\n"
                         "   movups %%xmm2, 32(%1)\n"
                         "   movups %%xmm3, 48(%1)\n"
                         "   add $64, %0\n"
                         "   add $64, %1\n"
                         "   cmp %2, %0\n"
                         "   jb 1b\n"
                         : "+r"(from), "+r"(to)
                         : "r"(end)
                         : "xmm0", "xmm1", "xmm2", "xmm3", "memory", "cc");
    }
    return sum_of_copy();
}

/* In pieces of 1,000 bytes, as programs copy, so that starting the instruction counts too. */
static uint32_t movsb_copies(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (size_t offset = 0; offset < COPIED; offset += 1000) {
            uint8_t *from = copy_from + offset, *to = copy_to + offset;
            size_t bytes = COPIED - offset < 1000 ? COPIED - offset : 1000;
            __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(bytes) : : "memory");
        }
    }
    return sum_of_copy();
}

/* ---- Floating point and SIMD ---------------------------------------------------------------------------- */

static uint32_t sum_of_bytes(const void *at, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = mix(sum, ((const uint8_t *)at)[i]);
    return sum;
}

/* Gaussian elimination with partial pivoting, as linpack does it. */
static uint32_t eliminations(uint32_t count)
{
    enum { N = 64 };
    static double a[N][N];
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (int row = 0; row < N; row++)
            for (int column = 0; column < N; column++)
                a[row][column] = (int32_t)(next_random() % 65536 - 32768) / 16384.0;
        for (int k = 0; k < N - 1; k++) {
            int pivot = k;
            for (int row = k + 1; row < N; row++)
                if (__builtin_fabs(a[row][k]) > __builtin_fabs(a[pivot][k]))
                    pivot = row;
            if (a[pivot][k] == 0)
                continue;
            for (int column = k; column < N; column++) {
                double value = a[k][column];
                a[k][column] = a[pivot][column];
                a[pivot][column] = value;
            }
            for (int row = k + 1; row < N; row++) {
                double factor = a[row][k] / a[k][k];
                for (int column = k + 1; column < N; column++)
                    a[row][column] -= factor * a[k][column];
            }
        }
        sum = mix(sum, sum_of_bytes(a[N - 1], sizeof a[N - 1]));
    }
    return sum;
}

static uint32_t sse2_integers(uint32_t count)
{
    enum { N = 1024 };
    static __m128i data[N];
    uint32_t *words = (uint32_t *)data;
    for (int i = 0; i < N * 4; i++)
        words[i] = next_random();
    __m128i sum = _mm_setzero_si128(), step = _mm_set_epi32(1, 2, 3, 5);
    for (uint32_t i = 0; i < count; i++) {
        for (int n = 0; n < N; n++) {
            __m128i x = data[n];
            __m128i low = _mm_and_si128(_mm_srli_epi32(x, 7), _mm_set1_epi32(0x00FF00FF));
            __m128i product = _mm_mul_epu32(x, low);
            x = _mm_add_epi32(_mm_xor_si128(x, product), _mm_shuffle_epi32(low, 0x1B));
            x = _mm_sub_epi32(x, _mm_and_si128(_mm_cmpgt_epi32(x, sum), step));
            sum = _mm_add_epi64(sum, _mm_unpacklo_epi8(x, low));
            data[n] = x;
        }
    }
    return sum_of_bytes(&sum, sizeof sum) ^ sum_of_bytes(data, sizeof data);
}

static uint32_t x87(uint32_t count)
{
    long double x = 1, sum = 0, y = 3;
    for (uint32_t i = 0; i < count; i++) {
        y = y * 1.0009765625L - x / 7;
        if (y > 100 || y < -100)
            y = 3;
        x = __builtin_sqrtl(y * y + i) / (x + 1);
        sum += x - y;
    }
    return sum_of_bytes(&sum, 10);
}

/* ---- Code that rewrites itself -------------------------------------------------------------------------- */

static uint8_t *code;

static void rewrite_prepare(void)
{
    code = map(PAGE, PROT_EXEC);
    code[0] = 0xB8; /* mov eax, imm32 */
    code[5] = 0xC3; /* ret */
}

static uint32_t rewrites(uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(code + 1, &i, sizeof i);
        __asm__ volatile("" : : : "memory");
        sum = mix(sum, ((uint32_t(*)(void))code)());
    }
    return sum;
}

/* ---- Main ----------------------------------------------------------------------------------------------- */

static const struct kind {
    const char *name;
    uint32_t count;
    uint32_t (*work)(uint32_t count);
    void (*prepare)(void);
} kinds[] = {
    {"syscall", 120000, syscalls, NULL}, /* getppid() */
    {"signal", 15000, signals, signal_prepare}, /* a signal to itself, handled */
    {"page-fault", 10, page_faults, NULL}, /* first touches of pages, 8 MiB at a time */
    {"mmap", 6000, mappings, NULL}, /* mmap and munmap of 64 KiB, untouched */
    {"fork", 400, forks, NULL}, /* fork, exit, wait */
    {"exec", 130, execs, NULL}, /* fork, exec, exit, wait */
    {"pipe", 4000, pipes, NULL}, /* two processes hand a byte to and fro */
    {"integer", 60000000, integers, NULL}, /* shifts and adds in registers */
    {"multiply", 80000000, multiplications, NULL}, /* 64-bit multiplication */
    {"divide", 50000000, divisions, NULL}, /* 32-bit division */
    {"call", 5000, calls, NULL}, /* calls and returns, recursive */
    {"sieve", 40, sieves, sieve_prepare}, /* primes below 2^20 */
    {"quicksort", 40, quicksorts, quicksort_prepare}, /* 65,536 numbers */
    {"bytecode", 30, bytecode, NULL}, /* an interpreter of a stack machine */
    {"chase-16k", 111111111, chase, short_chain_prepare}, /* pointers through 16 KiB */
    {"chase-24m", 4000000, chase, long_chain_prepare}, /* pointers through 24 MiB */
    {"copy-sse2", 12, sse2_copies, copy_prepare}, /* 8 MiB by MOVUPS */
    {"copy-movsb", 2, movsb_copies, copy_prepare}, /* 8 MiB by REP MOVSB, 1,000 bytes at a time */
    {"sse2-double", 300, eliminations, NULL}, /* Gaussian elimination in doubles */
    {"sse2-integer", 15000, sse2_integers, NULL}, /* packed integers */
    {"x87", 4000000, x87, NULL}, /* 80-bit arithmetic, with square roots and divisions */
    {"rewrite", 1000000, rewrites, rewrite_prepare}, /* code whose immediate changes before each call */
};

/* A mark is out, and the port quiet again, before the work goes on. */
static void mark(const char *name, const char *what)
{
    dprintf(STDOUT_FILENO, "kind %s %s\n", name, what);
    tcdrain(STDOUT_FILENO);
}

/* Each kind has a process of its own, so that none finds what another left, or falls with it. */
static int run(const struct kind *kind, uint32_t percent)
{
    int status;
    pid_t child = fork();
    if (!child) {
        char end[32];
        uint32_t count = (uint64_t)kind->count * percent / 100;
        random_state = 1;
        if (kind->prepare)
            kind->prepare();
        mark(kind->name, "begin");
        snprintf(end, sizeof end, "end %08x", kind->work(count ? count : 1));
        mark(kind->name, end);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork");
    if (status)
        dprintf(STDERR_FILENO, "bench-kinds: %s ended with status %#x\n", kind->name, status);
    return status != 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc == 2 && !strcmp(argv[1], "exit"))
        return 0;
    for (int i = 2; i < argc; i++) {
        const struct kind *kind = kinds, *end = kinds + sizeof kinds / sizeof *kinds;
        while (kind < end && strcmp(kind->name, argv[i]))
            kind++;
        if (kind == end) {
            dprintf(STDERR_FILENO, "bench-kinds: there is no kind %s\n", argv[i]);
            failed = 1;
        } else {
            failed |= run(kind, strtoul(argv[1], NULL, 10));
        }
    }
    return failed;
}
