using '../main.bicep'

param name = 'tidemark'
param location = 'westeurope'
param containerRegistryResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/images/providers/Microsoft.ContainerRegistry/registries/contosoimages'
param image = 'tidemark:0.1.0'
param failoverResourceGroupName = 'recovered-machines'
param failoverMachines = true
param sourcePrincipals = [
  {
    principalId: '11111111-1111-1111-1111-111111111111'
    principalType: 'ServicePrincipal'
  }
]
param operatorPrincipals = [
  {
    principalId: '22222222-2222-2222-2222-222222222222'
    principalType: 'Group'
  }
]
param alertEmails = ['recovery@contoso.example']
