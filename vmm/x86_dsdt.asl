// SPDX-License-Identifier: GPL-2.0-or-later
// What the guest learns about the machine that is not in the fixed tables (ACPI 6.5 sections 5 and 6; PCI firmware 3.2).
// Compiled by iasl into build/gen; the four-letter integers at the top are patched by vmm/x86_acpi.c for each VM. They
// are written with all 64 bits used so that iasl gives each of them eight bytes.
DefinitionBlock ("", "DSDT", 2, "TERN", "TERNDSDT", 0x00000001)
{
    Name (P32B, 0x1111111111111111)     // 32-bit window for BARs: base, length
    Name (P32L, 0x1111111111111111)
    Name (P64B, 0x1111111111111111)     // 64-bit window: base, length
    Name (P64L, 0x1111111111111111)
    Name (ECMB, 0x1111111111111111)     // ECAM: base, length
    Name (ECML, 0x1111111111111111)
    Name (GENA, 0x1111111111111111)     // VM generation ID: guest physical address
    Name (SERP, 0x1111111111111111)     // 1: there is a serial port

    Name (_S5, Package (4) { 5, 0, 0, 0 })

    Scope (\_SB)
    {
        // PCI root: one bus, configuration through ECAM only, no I/O ports, no wired interrupts.
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CCA, 1)

            Name (WIN, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 0, 0, 1)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0, 0xFFF, 0, 0x1000, , , W32)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0, 0xFFF, 0, 0x1000, , , W64)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateQWordField (WIN, ^W32._MIN, MN32)
                CreateQWordField (WIN, ^W32._MAX, MX32)
                CreateQWordField (WIN, ^W32._LEN, LN32)
                CreateQWordField (WIN, ^W64._MIN, MN64)
                CreateQWordField (WIN, ^W64._MAX, MX64)
                CreateQWordField (WIN, ^W64._LEN, LN64)
                MN32 = P32B
                LN32 = P32L
                MX32 = P32B + P32L - 1
                MN64 = P64B
                LN64 = P64L
                MX64 = P64B + P64L - 1
                Return (WIN)
            }
            // The guest may keep native control of everything that PCI Express has; there is nobody to share it with.
            Method (_OSC, 4, NotSerialized)
            {
                If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    Return (Arg3)
                }
                CreateDWordField (Arg3, 0, STAT)
                STAT |= 4
                Return (Arg3)
            }
        }

        // ECAM is nobody's window: an operating system uses it only where it is reserved.
        Device (MBRS)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 1)
            Name (RES, ResourceTemplate ()
            {
                QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0, 0xFFF, 0, 0x1000, , , ECAM)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateQWordField (RES, ^ECAM._MIN, MNEC)
                CreateQWordField (RES, ^ECAM._MAX, MXEC)
                CreateQWordField (RES, ^ECAM._LEN, LNEC)
                MNEC = ECMB
                LNEC = ECML
                MXEC = ECMB + ECML - 1
                Return (RES)
            }
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0)
            Method (_STA, 0, NotSerialized)
            {
                Return (SERP * 0x0F)
            }
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
            })
        }

        Device (RTC)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 1, 2)
            })
        }

        // Events: one interrupt; a register that is read once and says which (devices/power.h).
        OperationRegion (EVTR, SystemIO, 0x0604, 4)
        Field (EVTR, DWordAcc, NoLock, Preserve)
        {
            EVTS, 32
        }
        Device (GED)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 9 }
            })
            Method (_EVT, 1, Serialized)
            {
                Local0 = EVTS
                If (Local0 & 1)
                {
                    Notify (PWRB, 0x80)
                }
                If (Local0 & 2)
                {
                    Notify (VGEN, 0x80)
                }
            }
        }
        Device (PWRB)
        {
            Name (_HID, EisaId ("PNP0C0C"))
            Name (_UID, 0)
        }

        Device (VGEN)
        {
            Name (_HID, "TERN0001")
            Name (_CID, "VM_Gen_Counter")
            Name (_DDN, "VM_Gen_Counter")
            Method (ADDR, 0, Serialized)
            {
                Local0 = Package (2) { 0, 0 }
                Local0 [0] = GENA & 0xFFFFFFFF
                Local0 [1] = GENA >> 32
                Return (Local0)
            }
        }
    }
}
