# Makes a forest of Active Directory trust an authority of Chancery for smart-card logon.
#
# Written by: chancery windows bootstrap
# Authority:  issuing
#   CN=O'Brien's Issuing CA,O=Example
#     SHA-256 14837a686d6f29b8436a95d00762b2331911c68ca238ed22eba2edfd6db2ccd3
#   CN=Example Root CA,O=Example
#     SHA-256 12f5e9417df3f05a1a5c7634afa9afcb3e28b42c64d50f5fe33aefd3a7f06bd5
#
# Run it on a domain controller, as a member of Enterprise Admins and Domain Admins:
#   powershell -ExecutionPolicy Bypass -File bootstrap.ps1 -WhatIf     says what it would do
#   powershell -ExecutionPolicy Bypass -File bootstrap.ps1
# It changes only what is not so yet: run it again, as often as you like. It takes nothing away.
#
# It needs certutil (part of Windows) and the module GroupPolicy (on every domain controller).

#Requires -Version 5.1
#Requires -RunAsAdministrator
#Requires -Modules GroupPolicy

[CmdletBinding(SupportsShouldProcess = $true)]
param(
    # Where the group policy is linked: an OU, or the whole domain.
    [string] $Target = ([ADSI] 'LDAP://RootDSE').defaultNamingContext
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'

# ---- What is to be so -------------------------------------------------------------------------

$GpoName = 'Chancery smart-card logon'
$CrlUrl = 'http://pki.example.test/issuing.crl'

# Trust in the root; the CAs below it, so that every machine finds the path; and NTAuth, which says who
# may issue certificates that log on.
$Certificates = @(
    @{
        What = 'the root is trusted: CN=Example Root CA,O=Example'
        Store = 'RootCA'
        Container = 'Certification Authorities'
        Der = 'MIIBrTCCAVOgAwIBAgIUPnZ6kSRC/kE/mj1U5omn5GOS3vEwCgYIKoZIzj0EAwIwLDEQMA4GA1UECgwHRXhhbXBsZTEYMBYGA1UEAwwPRXhhbXBsZSBSb290IENBMB4XDTI2MTEyMjEwMDEzOFoXDTQ2MTExNzEwMDEzOFowLDEQMA4GA1UECgwHRXhhbXBsZTEYMBYGA1UEAwwPRXhhbXBsZSBSb290IENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIx05pwBUfhLqFro8/cXrKlZPTshcdY/XiEyJG9GXD/i3PJeEzKpjuA68L4cfbWMLX6YKvgS9LoWqEacNhnIRK6NTMFEwHQYDVR0OBBYEFECo5fCAsqwUUkEWtvUi6nYQY8u3MB8GA1UdIwQYMBaAFECo5fCAsqwUUkEWtvUi6nYQY8u3MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgL29OGlWUMI+Xui8w5mKmC7l39WYP14fV5D98ib2RV40CIQDhUVMKS3gWt/y2kKg6uoKnXbHsnd07niqCiebADw6S5g=='
    }
    @{
        What = 'the CA is found: CN=O''Brien''s Issuing CA,O=Example'
        Store = 'SubCA'
        Container = 'AIA'
        Der = 'MIICjTCCAjOgAwIBAgIUcgtrsQp5mhEvnhmXspGFuBUsvN4wCgYIKoZIzj0EAwIwLDEQMA4GA1UECgwHRXhhbXBsZTEYMBYGA1UEAwwPRXhhbXBsZSBSb290IENBMB4XDTI2MTEyMjEwMDE0MFoXDTM2MTExOTEwMDE0MFowMTEQMA4GA1UECgwHRXhhbXBsZTEdMBsGA1UEAwwUTydCcmllbidzIElzc3VpbmcgQ0EwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCkgk7HpU+Gld7lut6ugXH/bq+bQz5KZ2cl4pvQIx3Rt8Ap5Oovw6Sqz9mbA9WBmAukuMuQpOIiew6sEU+f9mpNHqyzi1CgRHKWEHj/wOr2pVVvr4MxRCup6xCY8AfMDhpv/s4EFI64FyzxjgIbgX9mJBr2hldtkj4pxkeBtyFA6fs5fGuIBdE6wxoUcFwt0DYqC8PQagtXLLuSNGVoXq4xN2yGe6JpQmzeDEsc61GPcVq0TqbGh1/sO8+FEDEIqg+0ppHCEnvR48ge8NhOw3619hxT2oS3VcZv/iNvri9PQBkjuBljLt1itBCer7DMP4YkviG6AhGKVuoWq8rb76opAgMBAAGjYzBhMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBQRoo0Q2h2aFy7+coVcjxbJ7HxfLjAfBgNVHSMEGDAWgBRAqOXwgLKsFFJBFrb1Iup2EGPLtzAKBggqhkjOPQQDAgNIADBFAiEAupP0YkGjGGHP76YLoFWPuHIyPtGbjQW49nRq4IKEuSECID1SPjlr9k0cr7Z3YKEutl5Bm4iPCzZJ6qhyNVuD68Pj'
    }
    @{
        What = 'NTAuth has the authority: CN=O''Brien''s Issuing CA,O=Example'
        Store = 'NTAuthCA'
        Container = 'NTAuthCertificates'
        Der = 'MIICjTCCAjOgAwIBAgIUcgtrsQp5mhEvnhmXspGFuBUsvN4wCgYIKoZIzj0EAwIwLDEQMA4GA1UECgwHRXhhbXBsZTEYMBYGA1UEAwwPRXhhbXBsZSBSb290IENBMB4XDTI2MTEyMjEwMDE0MFoXDTM2MTExOTEwMDE0MFowMTEQMA4GA1UECgwHRXhhbXBsZTEdMBsGA1UEAwwUTydCcmllbidzIElzc3VpbmcgQ0EwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCkgk7HpU+Gld7lut6ugXH/bq+bQz5KZ2cl4pvQIx3Rt8Ap5Oovw6Sqz9mbA9WBmAukuMuQpOIiew6sEU+f9mpNHqyzi1CgRHKWEHj/wOr2pVVvr4MxRCup6xCY8AfMDhpv/s4EFI64FyzxjgIbgX9mJBr2hldtkj4pxkeBtyFA6fs5fGuIBdE6wxoUcFwt0DYqC8PQagtXLLuSNGVoXq4xN2yGe6JpQmzeDEsc61GPcVq0TqbGh1/sO8+FEDEIqg+0ppHCEnvR48ge8NhOw3619hxT2oS3VcZv/iNvri9PQBkjuBljLt1itBCer7DMP4YkviG6AhGKVuoWq8rb76opAgMBAAGjYzBhMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBQRoo0Q2h2aFy7+coVcjxbJ7HxfLjAfBgNVHSMEGDAWgBRAqOXwgLKsFFJBFrb1Iup2EGPLtzAKBggqhkjOPQQDAgNIADBFAiEAupP0YkGjGGHP76YLoFWPuHIyPtGbjQW49nRq4IKEuSECID1SPjlr9k0cr7Z3YKEutl5Bm4iPCzZJ6qhyNVuD68Pj'
    }
)

# Values of the group policy.
$Settings = @(
    @{
        What = 'certificates of an inserted card are known to programs'
        Key = 'HKLM\SOFTWARE\Policies\Microsoft\Windows\CertProp'
        Name = 'CertPropEnabled'
        Type = 'DWord'
        Value = 1
    }
    @{
        What = 'certificates with elliptic curves may log on'
        Key = 'HKLM\SOFTWARE\Policies\Microsoft\Windows\SmartCardCredentialProvider'
        Name = 'EnumerateECCCerts'
        Type = 'DWord'
        Value = 1
    }
    @{
        What = 'a workstation is locked when the card is taken out'
        Key = 'HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
        Name = 'ScRemoveOption'
        Type = 'String'
        Value = '1'
    }
    @{
        What = 'the service that notices it starts with Windows'
        Key = 'HKLM\SYSTEM\CurrentControlSet\Services\SCPolicySvc'
        Name = 'Start'
        Type = 'DWord'
        Value = 2
    }
)

# ---- How to see and change it -----------------------------------------------------------------

[string] $Configuration = ([ADSI] 'LDAP://RootDSE').configurationNamingContext
$Missing = @()

# The certificates in an object of Public Key Services and below it, as base64.
function Get-Published([string] $Container) {
    $path = "LDAP://CN=$Container,CN=Public Key Services,CN=Services,$Configuration"
    if (-not [ADSI]::Exists($path)) { return }
    $searcher = New-Object System.DirectoryServices.DirectorySearcher([ADSI] $path)
    $searcher.Filter = '(cACertificate=*)'
    $null = $searcher.PropertiesToLoad.Add('cACertificate')
    foreach ($found in $searcher.FindAll()) {
        foreach ($der in $found.Properties['cacertificate']) { [Convert]::ToBase64String($der) }
    }
}

function Publish-Certificate($Certificate) {
    $file = [System.IO.Path]::GetTempFileName()
    try {
        [System.IO.File]::WriteAllBytes($file, [Convert]::FromBase64String($Certificate.Der))
        $said = & certutil.exe -f -dspublish $file $Certificate.Store
        if ($LASTEXITCODE -ne 0) { throw "certutil -dspublish failed: $said" }
    } finally {
        Remove-Item -LiteralPath $file -WhatIf:$false
    }
}

function Get-Setting($Setting) {
    $value = Get-GPRegistryValue -Name $GpoName -Key $Setting.Key -ValueName $Setting.Name `
        -ErrorAction SilentlyContinue
    # What a string in the registry ends with is no part of it.
    if ($null -ne $value) { return "$($value.Value)".TrimEnd([char] 0) }
}

function Test-Link {
    $links = (Get-GPInheritance -Target $Target).GpoLinks
    return @($links | Where-Object { $_.DisplayName -eq $GpoName }).Count -gt 0
}

# ---- Certificates -----------------------------------------------------------------------------

foreach ($certificate in $Certificates) {
    if (@(Get-Published $certificate.Container) -contains $certificate.Der) {
        Write-Output "is so    $($certificate.What)"
    } elseif ($PSCmdlet.ShouldProcess($certificate.Container, "publish $($certificate.What)")) {
        Publish-Certificate $certificate
        Write-Output "done     $($certificate.What)"
    }
}

# ---- Group policy -----------------------------------------------------------------------------

$gpo = Get-GPO -Name $GpoName -ErrorAction SilentlyContinue
if ($null -ne $gpo) {
    Write-Output "is so    there is a group policy $GpoName"
} elseif ($PSCmdlet.ShouldProcess($GpoName, 'make a group policy')) {
    $null = New-GPO -Name $GpoName -Comment 'Smart-card logon by certificates of Chancery'
    Write-Output "done     there is a group policy $GpoName"
}
foreach ($setting in $Settings) {
    if ((Get-Setting $setting) -eq "$($setting.Value)") {
        Write-Output "is so    $($setting.What)"
    } elseif ($PSCmdlet.ShouldProcess($GpoName, "set: $($setting.What)")) {
        $null = Set-GPRegistryValue -Name $GpoName -Key $setting.Key -ValueName $setting.Name `
            -Type $setting.Type -Value $setting.Value
        Write-Output "done     $($setting.What)"
    }
}
if (Test-Link) {
    Write-Output "is so    the group policy is linked to $Target"
} elseif ($PSCmdlet.ShouldProcess($Target, "link the group policy $GpoName")) {
    $null = New-GPLink -Name $GpoName -Target $Target
    Write-Output "done     the group policy is linked to $Target"
}

# ---- Verification: what is so now -------------------------------------------------------------

foreach ($certificate in $Certificates) {
    if (@(Get-Published $certificate.Container) -notcontains $certificate.Der) {
        $Missing += $certificate.What
    }
}
foreach ($setting in $Settings) {
    if ((Get-Setting $setting) -ne "$($setting.Value)") { $Missing += $setting.What }
}
if (-not (Test-Link)) { $Missing += "the group policy is linked to $Target" }

# The CRL: without a fresh one, no domain controller lets anybody log on. It must be read from each
# controller and each workstation; here it is read from this machine.
try {
    $answer = Invoke-WebRequest -Uri $CrlUrl -UseBasicParsing
    $crl = [byte[]] $answer.Content
    # In the DER of a CRL (RFC 5280 section 5.1), the first two times are thisUpdate and nextUpdate.
    $text = [System.Text.Encoding]::GetEncoding(28591).GetString($crl)
    $times = [regex]::Matches($text, "\x17\x0D(\d{12})Z")
    $styles = [System.Globalization.DateTimeStyles] 'AssumeUniversal, AdjustToUniversal'
    $culture = [System.Globalization.CultureInfo]::InvariantCulture
    $next = [datetime]::ParseExact($times[1].Groups[1].Value, 'yyMMddHHmmss', $culture, $styles)
    if ($next -lt [datetime]::UtcNow) {
        $Missing += "a CRL that is not over: $CrlUrl was good until $($next.ToString('u'))"
    } else {
        Write-Output "checked  the CRL $CrlUrl is good until $($next.ToString('u'))"
    }
} catch {
    $Missing += "the CRL $CrlUrl cannot be read: $($_.Exception.Message)"
}

foreach ($what in $Missing) { Write-Output "MISSING  $what" }
if ($Missing.Count -gt 0) { exit 1 }

Write-Output ''
Write-Output 'Next, or after some hours by itself, on each domain controller and workstation:'
Write-Output '  gpupdate /force'
Write-Output '  certutil -enterprise -viewstore NTAuth       the authority is among them'
Write-Output '  certutil -dcinfo verify                      each domain controller has a certificate'
exit 0
