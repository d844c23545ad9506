/* Wine 8 has no bcryptprimitives.dll, from which the standard library of Rust takes its random bytes.
   This one takes them from where Wine has them. It is for the tests alone: Windows has its own. */

#include <windows.h>

/* RtlGenRandom, which advapi32 exports by this name. */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    return length <= MAXDWORD && SystemFunction036(data, (ULONG) length);
}
